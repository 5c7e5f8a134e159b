"""What Flower runs as the server: the protocol itself, over clients that it reaches through the grid."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from fedsplit.errors import EngineError
from fedsplit.federation.roles import Cohort, Task, Update
from fedsplit.federation.trained import Trained
from fedsplit.flower.job import Job
from fedsplit.flower.wire import pack_task, unpack_update

_BETWEEN_POLLS_SECONDS = 0.01

Runner = Callable[[Job], Trained]


def server_app(clients: int, serve: Callable[[Runner], None]) -> ServerApp:
    """A server that waits for its clients and then hands `serve` the means to run one job after another."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:  # pyright: ignore[reportUnusedFunction]
        del context
        nodes = _nodes(grid, clients)
        serve(lambda job: _run(job, grid, nodes))

    return app


class GridCohort(Cohort):
    """The clients behind Flower's grid."""

    def __init__(self, job: Job, grid: Grid, nodes: dict[int, int]) -> None:
        """`nodes`: the node of each client."""
        self._text = job.model_dump_json()
        self._grid = grid
        self._nodes = nodes

    @property
    def size(self) -> int:
        """How many clients there are."""
        return len(self._nodes)

    def local_rounds(self, tasks: Sequence[Task]) -> tuple[Update, ...]:
        """All clients at once; updates in the order of the tasks, whoever answers first."""
        owner = {self._nodes[task.client]: f"client {task.client}, round {task.round}" for task in tasks}
        messages = [
            Message(pack_task(self._text, task), self._nodes[task.client], "train.local_round") for task in tasks
        ]
        updates: dict[int, Update] = {}
        for reply in _replies(self._grid, messages):
            content = _checked(reply, owner[reply.metadata.src_node_id])
            update = unpack_update(content)
            updates[update.client] = update
        return tuple(updates[task.client] for task in tasks)


def _run(job: Job, grid: Grid, nodes: dict[int, int]) -> Trained:
    with job.plan.threaded():
        cohort = GridCohort(job, grid, nodes)
        return job.protocol.train(job.plan, cohort, job.start(), job.recording, job.test(), job.checkpoint)


def _nodes(grid: Grid, clients: int) -> dict[int, int]:
    """Asks every node which client it is; nodes join only after the server has started."""
    while len(nodes := list(grid.get_node_ids())) < clients:
        time.sleep(_BETWEEN_POLLS_SECONDS)
    found: dict[int, int] = {}
    for reply in _replies(grid, (Message(RecordDict(), node, "query.partition") for node in nodes)):
        content = _checked(reply, "start of the clients")
        client = content.config_records["node"]["client"]
        assert isinstance(client, int)
        found[client] = reply.metadata.src_node_id
    return found


def _replies(grid: Grid, messages: Iterable[Message]) -> Iterator[Message]:
    """Replies as they come. Flower's own send_and_receive would hold a failure back until the last client is done."""
    waiting = set(grid.push_messages(messages))
    while waiting:
        replies = list(grid.pull_messages(waiting))
        waiting -= {reply.metadata.reply_to_message_id for reply in replies}
        yield from replies
        if waiting:
            time.sleep(_BETWEEN_POLLS_SECONDS)


def _checked(reply: Message, at: str) -> RecordDict:
    if reply.has_error():
        # The worker itself failed: it ran out of memory, or its packages do not fit. Its last line says the most.
        lines = (reply.error.reason or "no reason given").replace("\\n", "\n").strip().splitlines()
        remedy = "give each worker more memory, or use fewer"
        raise EngineError(f"the worker failed ({lines[-1]})", at=at, remedy=remedy)
    failure = reply.content.config_records.get("failure")
    if failure is not None:
        raise EngineError(str(failure["line"]))
    return reply.content
