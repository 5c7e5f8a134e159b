import gc
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pytest

pytest.importorskip("flwr")

import ray
import torch
from flwr.app import ConfigRecord, Message, RecordDict
from hypothesis import given, settings
from torch import Tensor

from fedsplit.flower.grid.array import to_record
from fedsplit.flower.grid.grid import StickyGrid, is_from_lost_worker
from fedsplit.flower.grid.layout import Layout
from fedsplit.flower.grid.release import new_context
from tests.flower import test_grid_app as direct
from tests.flower.test_grid_array import identical, tensors

pytestmark = [
    pytest.mark.engine,
    # Ray announces changes, and forgets processes that it started.
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

APP = "tests.flower.test_grid_app:app"
LARGE = 1 << 18
"""float32 elements; one MiB."""

Start = Callable[..., StickyGrid]


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    # Ray's sockets need a short path.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        yield
        ray.shutdown()
        # What Ray forgot is complained about here, where that is ignored.
        gc.collect()


@pytest.fixture(scope="module")
def grid(_ray: None) -> Iterator[StickyGrid]:
    """Five clients on two workers, for tests that leave the workers alive."""
    with StickyGrid(APP, 5, Layout(workers=2, cpus_per_worker=0.0)) as grid:
        yield grid


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[StickyGrid] = []

    def build(clients: int = 4, workers: int = 2, in_flight: int = 2, app: str = APP) -> StickyGrid:
        # No reserved cores: the grid of one test need not wait for those of another to be gone.
        layout = Layout(workers=workers, cpus_per_worker=0.0, in_flight=in_flight)
        started.append(StickyGrid(app, clients, layout))
        return started[-1]

    yield build
    for grid in started:
        grid.close()


def message(grid: StickyGrid, client: int, kind: str, tensor: Tensor | None = None, **values: int) -> Message:
    content = RecordDict({"values": ConfigRecord(dict(values))})
    if tensor is not None:
        content["arrays"] = to_record({"tensor": tensor})
    return Message(content, grid.node(client), kind)


def exchange(grid: StickyGrid, *messages: Message) -> list[Message]:
    """Replies in the order of the messages."""
    replies = {reply.metadata.reply_to_message_id: reply for reply in grid.send_and_receive(messages)}
    return [replies[sent.metadata.message_id] for sent in messages]


def values(reply: Message) -> dict[str, object]:
    assert not reply.has_error(), reply.error.reason
    return dict(reply.content.config_records["answer"])


def shared_memory() -> dict[int, int]:
    """Size in bytes of each segment that this process has open, by descriptor."""
    found: dict[int, int] = {}
    for link in Path("/proc/self/fd").iterdir():
        try:
            if "memfd:fedsplit" in str(link.readlink()):
                found[int(link.name)] = link.stat().st_size
        except FileNotFoundError:  # what listed the folder
            continue
    return found


def opened_memory(process: int) -> set[int]:
    """The segments that a process has open, by the number of their file."""
    links = Path(f"/proc/{process}/fd").iterdir()
    return {link.stat().st_ino for link in links if link.is_symlink() and "memfd:fedsplit" in str(link.readlink())}


def process(grid: StickyGrid, client: int) -> int:
    """The number of the worker's process that hosts a client."""
    return int(str(values(exchange(grid, message(grid, client, "query.who"))[0])["process"]))


def test_a_reply_does_not_wait_for_a_slow_one_of_its_parcel(start: Start, tmp_path: Path) -> None:
    grid, file = start(workers=1), tmp_path / "go on"
    waiting = message(grid, 1, "query.waits")
    waiting.content.config_records["values"]["file"] = str(file)
    sent = [message(grid, 0, "query.slowly"), waiting]
    replies = grid.replies(grid.push_messages(sent))
    assert values(next(replies)) == {"slow": True}
    file.touch()
    assert values(next(replies)) == {"waited": True}


def test_what_was_answered_before_a_worker_died_counts(start: Start) -> None:
    grid = start(workers=1)
    replies = exchange(
        grid, *(message(grid, client, kind) for client, kind in enumerate(("query.slowly", "train.dies")))
    )
    assert values(replies[0]) == {"slow": True}
    assert is_from_lost_worker(replies[1])


def test_replies_are_what_the_app_says_when_it_is_called_directly(grid: StickyGrid) -> None:
    sent = [message(grid, client, "query.echo", torch.arange(client), number=client) for client in range(5)]
    for client, reply in enumerate(exchange(grid, *sent)):
        expected = direct.app(sent[client], new_context(1, client, 5))
        assert reply.content == expected.content
        assert reply.metadata.src_node_id == expected.metadata.src_node_id == grid.node(client)
        assert reply.metadata.reply_to_message_id == expected.metadata.reply_to_message_id
        assert reply.metadata.message_type == "query.echo"


def test_every_node_is_one_partition_and_has_one_worker_for_life(grid: StickyGrid) -> None:
    assert list(grid.get_node_ids()) == [node.node_id for node in grid.get_nodes()]
    rounds = [
        [values(reply) for reply in exchange(grid, *(message(grid, client, "query.who") for client in range(5)))]
        for _ in range(3)
    ]
    assert [found["partition"] for found in rounds[0]] == [0, 1, 2, 3, 4]
    assert {found["partitions"] for found in rounds[0]} == {5}
    assert {found["telemetry"] for found in rounds[0]} == {"0"}
    homes = [[found["process"] for found in answers] for answers in rounds]
    assert homes[0] == homes[1] == homes[2]
    assert len(set(homes[0])) == 2


def test_messages_to_a_node_meet_its_state_in_the_order_in_which_they_are_pushed(start: Start) -> None:
    grid = start()
    pushed = [grid.push_messages([message(grid, client, "train.count") for client in (0, 2, 0, 1)]) for _ in range(5)]
    replies = {reply.metadata.reply_to_message_id: values(reply) for reply in grid.replies(chain.from_iterable(pushed))}
    seen = [[replies[name]["state"] for name in names] for names in pushed]
    assert seen == [[2 * turn + 1, turn + 1, 2 * turn + 2, turn + 1] for turn in range(5)]
    assert all(answer["state"] == answer["module"] for answer in replies.values())


def test_mods_are_applied(start: Start) -> None:
    grid = start(app="tests.flower.test_grid_app:with_mods")
    (reply,) = exchange(grid, message(grid, 0, "query.echo"))
    assert reply.content.config_records["stamp"]["by"] == "a mod"


def test_an_exception_is_a_reply_that_names_its_cause_and_harms_no_other(grid: StickyGrid) -> None:
    first, broken, third = exchange(grid, *(message(grid, client, "train.breaks") for client in range(3)))
    assert not first.has_error()
    assert not third.has_error()
    assert broken.error.reason is not None
    assert broken.error.reason.splitlines()[-1] == "ValueError: a client fell over"
    assert not is_from_lost_worker(broken)


@pytest.mark.parametrize("kind", ["query.nothing", "train"])
def test_a_message_that_the_app_does_not_know_is_an_error_reply(grid: StickyGrid, kind: str) -> None:
    (reply,) = exchange(grid, message(grid, 0, kind))
    assert "registered" in str(reply.error.reason)


@pytest.mark.parametrize(
    ("app", "cause"), [("tests.no_such:app", "ModuleNotFoundError"), ("tests.tiny:app", "AttributeError")]
)
def test_an_app_that_cannot_be_imported_is_an_error_reply(start: Start, app: str, cause: str) -> None:
    grid = start(app=app)
    (reply,) = exchange(grid, message(grid, 0, "query.echo"))
    assert str(reply.error.reason).splitlines()[-1].startswith(cause)
    assert not is_from_lost_worker(reply)


def test_a_thousand_nodes_on_two_workers_answer_once_each(start: Start) -> None:
    grid = start(clients=1000)
    for _ in range(3):
        pushed = grid.push_messages([message(grid, client, "query.who") for client in range(1000)])
        replies = list(grid.replies(pushed[:1]))
        # Those that are there by now: of one push, replies come in parts.
        replies += grid.pull_messages(pushed)
        replies += grid.replies(set(pushed) - {reply.metadata.reply_to_message_id for reply in replies})
        assert sorted(int(str(values(reply)["partition"])) for reply in replies) == list(range(1000))


@pytest.mark.parametrize("bound", [1, 2])
def test_a_push_returns_when_no_more_than_the_bound_are_in_flight(start: Start, bound: int) -> None:
    grid = start(clients=1, workers=1, in_flight=bound)
    names: list[str] = []
    returned: list[float] = []
    for _ in range(6):
        names += grid.push_messages([message(grid, 0, "query.clock")])
        returned.append(time.monotonic())
    replies = {reply.metadata.reply_to_message_id: values(reply)["seconds"] for reply in grid.replies(names)}
    # All processes of a machine read one clock, so this is an order of events and no measurement.
    assert all(replies[name] < after for name, after in zip(names, returned[bound:], strict=False))


def test_replies_can_be_taken_once_and_nobody_waits_for_what_never_comes(grid: StickyGrid) -> None:
    pushed = grid.push_messages([message(grid, client, "query.echo") for client in range(4)])
    assert sorted(reply.metadata.reply_to_message_id for reply in grid.replies(pushed)) == sorted(pushed)
    assert grid.pull_messages(pushed) == []
    with pytest.raises(ValueError, match="no reply can come"):
        next(grid.replies(pushed))


def test_what_misses_the_timeout_can_still_be_pulled(grid: StickyGrid) -> None:
    sent = message(grid, 0, "query.echo", torch.zeros(LARGE))
    found = grid.send_and_receive([sent], timeout=0)
    rest = list(grid.replies([sent.metadata.message_id])) if not found else []
    assert len([*found, *rest]) == 1
    assert len(grid.send_and_receive([message(grid, 0, "query.echo")], timeout=3600)) == 1


def test_a_message_to_nobody_is_refused_before_any_is_sent(grid: StickyGrid) -> None:
    (sent,) = exchange(grid, message(grid, 0, "query.echo"))
    with pytest.raises(ValueError, match="there is no node"):
        grid.push_messages([message(grid, 4, "train.count"), message(grid, 5, "train.count")])
    with pytest.raises(ValueError, match="cannot be pushed"):
        grid.push_messages([message(grid, 4, "train.count"), Message(RecordDict(), reply_to=sent)])
    (reply,) = exchange(grid, message(grid, 4, "train.count"))
    assert values(reply)["state"] == 1


def test_a_worker_that_dies_is_told_for_all_that_it_had_and_can_be_replaced(start: Start) -> None:
    grid = start(clients=4)
    exchange(grid, *(message(grid, client, "train.count") for client in range(4)))
    pushed = grid.push_messages([message(grid, client, "train.dies") for client in range(4)])
    pushed += grid.push_messages([message(grid, 3, "train.count")])
    replies = {reply.metadata.reply_to_message_id: reply for reply in grid.replies(pushed)}
    assert [is_from_lost_worker(replies[name]) for name in pushed] == [False, True, False, True, True]
    (reply,) = exchange(grid, message(grid, 1, "train.count"))
    assert is_from_lost_worker(reply)
    assert reply.metadata.src_node_id == grid.node(1)
    assert grid.restart_lost() == [grid.node(1), grid.node(3)]
    replies = exchange(grid, *(message(grid, client, "train.count", torch.zeros(LARGE)) for client in range(4)))
    assert [values(reply)["state"] for reply in replies] == [2, 1, 2, 1]
    assert grid.restart_lost() == []


def test_a_worker_that_is_killed_while_idle_is_noticed_at_the_next_message(start: Start) -> None:
    grid = start(clients=2)
    os.kill(process(grid, 0), signal.SIGKILL)
    lost, alive = exchange(grid, message(grid, 0, "query.who"), message(grid, 1, "query.who"))
    assert is_from_lost_worker(lost)
    assert "died" in str(lost.error.reason)
    assert not alive.has_error()


def test_an_app_that_ends_its_process_loses_the_worker(start: Start) -> None:
    grid = start()
    lost, alive = exchange(grid, message(grid, 1, "train.exits"), message(grid, 0, "query.who"))
    assert is_from_lost_worker(lost)
    assert not alive.has_error()
    assert grid.restart_lost() == [grid.node(1), grid.node(3)]
    (reply,) = exchange(grid, message(grid, 1, "query.who"))
    assert not reply.has_error()


def test_a_worker_that_dies_while_it_replies_is_lost(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedsplit.flower.grid.hallway.host", lambda: "elsewhere")
    grid = start(clients=1)
    number = process(grid, 0)
    pushed = grid.push_messages([message(grid, 0, "train.floods")])
    # So much fits into no socket, and nobody receives it.
    while Path(f"/proc/{number}/cmdline").exists() and Path(f"/proc/{number}/cmdline").read_bytes():
        time.sleep(0.05)
    (reply,) = grid.replies(pushed)
    assert is_from_lost_worker(reply)
    assert grid.restart_lost() == [grid.node(0)]
    assert process(grid, 0) != number


def test_a_worker_whose_line_outlives_it_is_lost(start: Start) -> None:
    grid = start(clients=1)
    (reply,) = exchange(grid, message(grid, 0, "train.leaves_a_child"))
    assert is_from_lost_worker(reply)


@settings(max_examples=50)
@given(tensors())
def test_any_tensor_comes_back_bit_by_bit(grid: StickyGrid, tensor: Tensor) -> None:
    (reply,) = exchange(grid, message(grid, 0, "query.echo", tensor))
    assert identical(direct.arrays(reply)["tensor"], tensor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool])
def test_large_tensors_come_back_through_shared_memory(grid: StickyGrid, dtype: torch.dtype) -> None:
    tensor = torch.randn((1200, 1000), generator=torch.Generator().manual_seed(1)).to(dtype).t()
    (reply,) = exchange(grid, message(grid, 1, "query.echo", tensor))
    back = direct.arrays(reply)["tensor"]
    assert identical(back, tensor)
    assert back.data_ptr() % 64 == 0
    assert max(shared_memory().values()) >= tensor.nbytes
    assert not any("fedsplit" in path.name for path in Path("/dev/shm").iterdir())


def test_what_was_received_stays_as_it_was_while_more_comes(grid: StickyGrid) -> None:
    kept: list[Tensor] = []
    for number in range(4):
        # Two clients of one worker, which keeps all in one place.
        sent = message(grid, 2 * (number % 2), "train.keeps", torch.full((LARGE + number,), float(number)))
        kept.append(direct.arrays(exchange(grid, sent)[0])["tensor"])
    assert [first.tolist() for first in kept] == [[0.0], [0.0, 1.0], [0.0, 1.0, 2.0], [0.0, 1.0, 2.0, 3.0]]


def test_tensors_may_change_as_soon_as_they_are_pushed_or_returned(start: Start) -> None:
    grid = start(workers=1, in_flight=1)
    tensor = torch.zeros(LARGE)
    names: list[str] = []
    for number in range(4):
        names += grid.push_messages([message(grid, number, "query.echo", tensor.fill_(number))])
    replies = {reply.metadata.reply_to_message_id: reply for reply in grid.replies(names)}
    assert [direct.arrays(replies[name])["tensor"].unique().tolist() for name in names] == [[0], [1], [2], [3]]
    replies = exchange(grid, *(message(grid, client, "train.reuses") for client in range(4)))
    assert [direct.arrays(reply)["tensor"].unique().tolist() for reply in replies] == [[0], [1], [2], [3]]


def test_a_tensor_for_many_nodes_is_sent_once_and_belongs_to_each(start: Start) -> None:
    before = shared_memory()
    grid = start(clients=50, workers=1)
    tensor = torch.zeros(LARGE)
    exchange(grid, *(message(grid, client, "train.keeps", tensor) for client in range(50)))
    # A place to meet, and one tensor down; sizes are powers of two.
    sizes = {size for _, size in shared_memory().items() - before.items()}
    assert sizes == {tensor.nbytes, 2 * tensor.nbytes}
    replies = exchange(grid, *(message(grid, client, "train.in_place", tensor) for client in range(50)))
    assert all(bool((direct.arrays(reply)["tensor"] == 1).all()) for reply in replies)


@pytest.mark.parametrize("shares", [True, False], ids=["same machine", "another machine"])
def test_another_machine_gets_the_same_through_the_line(
    start: Start, monkeypatch: pytest.MonkeyPatch, shares: bool
) -> None:
    if not shares:
        monkeypatch.setattr("fedsplit.flower.grid.hallway.host", lambda: "elsewhere")
    grid = start()
    tensor = torch.arange(2.0 * LARGE)
    for kind, change in (("query.echo", 0), ("train.in_place", 1)):
        (reply,) = exchange(grid, message(grid, 0, kind, tensor))
        assert identical(direct.arrays(reply)["tensor"], tensor + change)
    assert bool(opened_memory(os.getpid()) & opened_memory(process(grid, 0))) == shares


@pytest.mark.parametrize("host", ["", "elsewhere"], ids=["same machine", "another machine"])
def test_a_worker_and_its_driver_may_both_have_much_to_send(
    start: Start, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    if host:
        monkeypatch.setattr("fedsplit.flower.grid.hallway.host", lambda: host)
    grid = start(clients=3000, workers=1, in_flight=4)
    exchange(grid, message(grid, 0, "query.who"))
    pushed: list[str] = []
    for _ in range(4):
        # More than a socket holds, whether in one part or in many.
        pushed += grid.push_messages([message(grid, 0, "query.echo", torch.zeros(32 * LARGE))])
        pushed += grid.push_messages([message(grid, client, "query.echo") for client in range(3000)])
    assert sum(not reply.has_error() for reply in grid.replies(pushed)) == len(pushed)


def test_nothing_shared_is_left(start: Start) -> None:
    before, lines_before, threads = shared_memory(), direct.lines(), threading.enumerate()
    grid = start()
    exchange(grid, message(grid, 0, "query.echo", torch.zeros(LARGE)), message(grid, 1, "train.breaks"))
    grid.push_messages([message(grid, 0, "train.keeps", torch.zeros(LARGE)), message(grid, 1, "train.dies")])
    assert shared_memory() != before
    assert len(direct.lines() - lines_before) == 2
    grid.close()
    grid.close()
    assert shared_memory() == before
    assert direct.lines() == lines_before
    assert threading.enumerate() == threads
