"""What Flower runs as the server: the protocol itself, over clients that it reaches through the grid."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedsplit.errors import EngineError
from fedsplit.federation.cohort import Cohort, LostWorkerError, Task, Update
from fedsplit.federation.messages import Down, Failed, Opening, Up
from fedsplit.federation.trained import Trained
from fedsplit.flower import wire
from fedsplit.flower.grid.release import is_from_lost_worker, told
from fedsplit.flower.job import Job

Runner = Callable[[Job], Trained]
Replies = Callable[[Iterable[str]], Iterator[Message]]
"""Numbers of messages -> their replies as they come."""


class GridCohort(Cohort):
    """The clients behind a grid."""

    def __init__(
        self, job: Job, grid: Grid, nodes: dict[int, int], replies: Replies, restart: Callable[[], object]
    ) -> None:
        """`nodes`: the node of each client. `restart`: puts others in the place of lost workers."""
        self._job = ConfigRecord({"settings": job.model_dump_json()})
        self._grid = grid
        self._nodes = nodes
        self._replies = replies
        self._restart = restart
        self._said: dict[int, str] = {}
        """The message of each client's next word."""
        self._round = 0

    @property
    def size(self) -> int:
        """How many clients there are."""
        return len(self._nodes)

    def local_rounds(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Update | Failed]]:
        """All clients at once."""
        openings = {self._nodes[task.opening.client]: task.opening for task in tasks}
        sent = self._push("train.local_round", {task.opening.client: self._with_job(task) for task in tasks})
        for reply in self._replies(sent):
            opening = openings[reply.metadata.src_node_id]
            update = _said(reply, opening.client, opening.round)
            assert isinstance(update, Update | Failed)
            yield opening.client, update

    def open(self, openings: Sequence[Opening]) -> None:
        """All clients at once; each says its first word when it is ready."""
        self._round = openings[0].round
        contents = {opening.client: self._with_job(opening) for opening in openings}
        self._said = dict(zip(contents, self._push("train.opening", contents), strict=True))

    def post(self, answers: Mapping[int, Down]) -> None:
        """What goes to the clients of one worker goes at once."""
        # Where clients move together, all get one and the same answer.
        packed = {
            place: wire.pack(answer) for place, answer in {id(answer): answer for answer in answers.values()}.items()
        }
        contents = {client: packed[id(answer)] for client, answer in answers.items()}
        self._said |= zip(contents, self._push("train.answer", contents), strict=True)

    def take(self, client: int) -> Up:
        """Waits for this client alone."""
        reply = next(self._replies([self._said.pop(client)]))
        said = _said(reply, client, self._round)
        assert isinstance(said, Up)
        return said

    def restore(self) -> None:
        """New workers know no client; each learns of a client when that begins its round."""
        self._restart()

    def _with_job(self, message: wire.Message) -> RecordDict:
        content = wire.pack(message)
        content["job"] = self._job
        return content

    def _push(self, kind: str, contents: Mapping[int, RecordDict]) -> list[str]:
        messages = [told(content, self._nodes[client], kind) for client, content in contents.items()]
        return list(self._grid.push_messages(messages))


def run_job(job: Job, grid: Grid, nodes: dict[int, int], replies: Replies, restart: Callable[[], object]) -> Trained:
    """One training over the clients behind a grid."""
    with job.plan.threaded():
        cohort = GridCohort(job, grid, nodes, replies, restart)
        return job.protocol.train(job.plan, cohort, job.start(), job.recording, job.test(), job.checkpoint)


def _said(reply: Message, client: int, number: int) -> wire.Message:
    at = f"client {client}, round {number}"
    if is_from_lost_worker(reply):
        raise LostWorkerError(f"its worker is gone ({reply.error.reason})", at=at, remedy="give each more memory")
    return Failed(failure(reply, at)) if reply.has_error() else wire.unpack(reply.content)


def failure(reply: Message, at: str) -> str:
    """What is told of a worker that failed: out of memory, or its packages do not fit. Its last line says the most."""
    lines = (reply.error.reason or "no reason given").replace("\\n", "\n").strip().splitlines()
    remedy = "give each worker more memory, or use fewer"
    return str(EngineError(f"the worker failed ({lines[-1]})", at=at, remedy=remedy))
