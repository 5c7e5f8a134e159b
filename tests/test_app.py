"""What `flwr run` runs as the server, over a grid in this process. Flower itself runs it in `tests/engines`."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import yaml

pytest.importorskip("flwr")

import torch
from flwr.app import Context, Message, RecordDict

from fedsplit.app import serve
from fedsplit.errors import EngineError, FedsplitError, ScenarioError
from fedsplit.flower import client_app, job, nodes
from fedsplit.flower.grid.release import FIRST_NODE, app_failed, identify, number
from fedsplit.flower.nodes import Nodes
from fedsplit.records.outcome import Outcomes
from fedsplit.report.folder import RunFolder
from fedsplit.simulate import simulate
from tests import tiny


class Grid:
    """Its nodes are machines that see no folder of the server's, and start a process for each message; as Flower has
    it, of a node nothing stays but its context."""

    def __init__(self, count: int) -> None:
        identify(1)
        self.contexts = {node: Context(1, node, {}, RecordDict(), {}) for node in range(FIRST_NODE, FIRST_NODE + count)}
        self.replies: dict[str, Message] = {}

    def get_node_ids(self) -> Iterable[int]:
        # Flower numbers nodes at random.
        return sorted(self.contexts, reverse=True)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        names: list[str] = []
        for message in messages:
            names.append(f"{len(self.replies)}")
            number(message, names[-1])
            self.replies[names[-1]] = self._answered(message)
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self.replies[name] for name in message_ids]

    def _answered(self, message: Message) -> Message:
        forget()
        folder = job.Job.model_validate_json(str(message.content["job"]["settings"])).folder
        away = folder.rename(folder.with_name(f"{folder.name}-away"))
        try:
            return client_app.app(message, self.contexts[message.metadata.dst_node_id])
        except Exception as error:
            return app_failed(message.metadata, str(error))
        finally:
            away.rename(folder)
            forget()


def forget() -> None:
    """All that a process keeps beside its node's context."""
    client_app._host.cache_clear()
    job._elsewhere.clear()


@pytest.fixture(autouse=True)
def unchanged_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def served(folder: Path, *assignments: str, nodes: int = 2, **config: str) -> Outcomes:
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny.raw(*assignments)))
    grid, out = Grid(nodes), folder / "out"
    given = {"scenario": str(folder / "tiny.yaml"), "set": "", "root": "", "out": str(out), **config}
    serve(lambda clients: Nodes(grid, clients), given)  # pyright: ignore[reportArgumentType]
    return RunFolder(out).join()


def timeless(outcomes: Outcomes) -> Outcomes:
    untimed = {"seconds": 0.0, "training_seconds": 0.0}
    return outcomes.model_copy(update={"outcomes": tuple(one.model_copy(update=untimed) for one in outcomes.outcomes)})


def test_nodes_that_see_no_folder_give_the_outcomes_of_one_process(tmp_path: Path) -> None:
    assignments = ("partition.clients=3", "optimizer={kind: adam, state: keep}")
    found = served(tmp_path, *assignments, nodes=3)
    expected = simulate(tiny.scenario(*assignments), tmp_path / "expected", lambda _: None)
    assert {outcome.defense for outcome in expected.outcomes} == {"none", "noise"}
    assert timeless(found) == timeless(expected)


def test_the_run_can_be_repeated_without_flwr_run(tmp_path: Path) -> None:
    served(tmp_path)
    assert yaml.safe_load((tmp_path / "out" / "scenario.yaml").read_text())["engine"]["kind"] == "flower"


def test_the_configuration_changes_the_scenario(tmp_path: Path) -> None:
    found = served(tmp_path, set="'defenses={a b: {kind: low_rank, rank: 2}}' seeds=[3]")
    assert {(outcome.defense, outcome.seed) for outcome in found.outcomes} == {("none", 3), ("a b", 3)}


def test_the_data_are_looked_for_in_the_configured_root(tmp_path: Path) -> None:
    with pytest.raises(FedsplitError, match=str(tmp_path / "here")):
        served(tmp_path, "dataset={kind: mnist}", root=str(tmp_path / "here"))


def test_a_scenario_of_the_bundle_is_found_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "mine.yaml").write_text(yaml.safe_dump(tiny.raw("defenses={}")))
    monkeypatch.syspath_prepend(str(bundle))
    assert len(served(tmp_path, scenario="mine.yaml").outcomes) == 1


def test_a_protocol_that_crosses_at_every_step_is_refused_before_a_node_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ScenarioError):
        served(tmp_path, nodes=0, set="protocol.kind=splitfed_v2")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("fedsplit: engine.kind: 'flower': cannot run splitfed_v2")
    assert "use protocol.kind splitfed_v1" in line


@pytest.mark.parametrize("count", [1, 3])
def test_there_must_be_as_many_nodes_as_clients(
    count: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(nodes, "_PATIENCE_SECONDS", 0.1)
    with pytest.raises(EngineError):
        served(tmp_path, nodes=count)
    (line,) = capsys.readouterr().out.splitlines()
    assert f"partition.clients: 2: but the nodes that have joined are {count};" in line
    assert "num-supernodes=2" in line


def test_an_unfinished_quotation_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ScenarioError):
        served(tmp_path, set="'seeds=[1]")
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_node_that_cannot_keep_its_rows_ends_the_run_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(grid: Grid, message: Message) -> Message:
        return app_failed(message.metadata, "no space left")

    monkeypatch.setattr(Grid, "_answered", broken)
    with pytest.raises(EngineError, match=r"before the first round: the worker failed \(no space left\)"):
        served(tmp_path)
