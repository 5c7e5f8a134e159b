"""The nodes of a grid that Flower itself keeps, in its simulation and in a deployment: one node is one client."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from fedsplit.errors import EngineError
from fedsplit.federation.trained import Trained
from fedsplit.flower.grid.array import to_record
from fedsplit.flower.job import Job
from fedsplit.flower.server_app import failure, run_job

_PATIENCE_SECONDS = 60.0
"""How long to wait for nodes that are still missing."""

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS, _GROWTH = 0.01, 0.1, 1.05

Gather = Callable[[int], "Nodes"]
"""As many nodes as there are clients."""
RunConfig = Mapping[str, str | float | bool]
"""What a run was started with, by key."""


def server_app(serve: Callable[[Gather, RunConfig], None]) -> ServerApp:
    """A server that hands `serve` the means to gather its clients, and what the run was started with."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:  # pyright: ignore[reportUnusedFunction]
        serve(lambda clients: Nodes(grid, clients), context.run_config)

    return app


class Nodes:
    """The node of each client, and what passes between it and the server."""

    def __init__(self, grid: Grid, clients: int) -> None:
        """Waits for the nodes. Raises EngineError where there are not as many as clients."""
        self._grid = grid
        # Each is as good as another, since their rows come from here.
        self._nodes = dict(enumerate(sorted(self._joined(clients))))

    def run(self, job: Job) -> Trained:
        """One training. Nodes read their clients' rows in the job's folder, or keep them since `entrust`."""
        return run_job(job, self._grid, self._nodes, self._replies, lambda: None)

    def entrust(self, job: Job) -> None:
        """Sends each node what it needs to be its client, for good: none sees the job's folder."""
        settings = ConfigRecord({"settings": job.model_dump_json()})
        sent: list[Message] = []
        for client, node in self._nodes.items():
            records = {name: to_record(tensors) for name, tensors in job.equipment([client]).items()}
            sent.append(Message(RecordDict({"job": settings, **records}), node, "train.belongings"))
        for reply in self._replies(self._grid.push_messages(sent)):
            if reply.has_error():
                raise EngineError(failure(reply, "before the first round"))

    def _joined(self, clients: int) -> list[int]:
        # They join only after the server has started.
        deadline = time.monotonic() + _PATIENCE_SECONDS
        pauses = _pauses()
        while len(nodes := list(self._grid.get_node_ids())) < clients and time.monotonic() < deadline:
            time.sleep(next(pauses))
        if len(nodes) != clients:
            remedy = f"start {clients} SuperNodes (simulated ones with --federation-config num-supernodes={clients})"
            reason = f"but the nodes that have joined are {len(nodes)}"
            raise EngineError(reason, at="partition.clients", value=clients, remedy=remedy)
        return nodes

    def _replies(self, messages: Iterable[str]) -> Iterator[Message]:
        """As they come. Flower's own send_and_receive would hold a failure back until the last client is done."""
        waiting, pauses = set(messages), _pauses()
        while waiting:
            found = list(self._grid.pull_messages(waiting))
            waiting -= {reply.metadata.reply_to_message_id for reply in found}
            yield from found
            if waiting:
                time.sleep(next(pauses))


def _pauses() -> Iterator[float]:
    """Seconds between two looks: some part of the time that has passed, since a look at a deployment is a request."""
    pause = _FIRST_PAUSE_SECONDS
    while True:
        yield pause
        pause = min(pause * _GROWTH, _LONGEST_PAUSE_SECONDS)
