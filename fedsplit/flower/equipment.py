"""Before a training: workers that do not see the job's folder are sent what they need to host their clients."""

from flwr.app import ConfigRecord, Message, RecordDict

from fedsplit.errors import EngineError
from fedsplit.federation.cohort import LostWorkerError
from fedsplit.flower.grid.array import to_record
from fedsplit.flower.grid.grid import StickyGrid, is_from_lost_worker
from fedsplit.flower.job import Job

_ATTEMPTS = 3


def equip(job: Job, grid: StickyGrid) -> None:
    """Asks one client of each worker; workers that are lost meanwhile are replaced. Raises EngineError in the end."""
    for attempt in range(_ATTEMPTS):
        try:
            _equip(job, grid)
        except LostWorkerError:
            if attempt == _ATTEMPTS - 1:
                raise
            grid.restart_lost()
        else:
            return


def _equip(job: Job, grid: StickyGrid) -> None:
    settings = ConfigRecord({"settings": job.model_dump_json()})
    groups = {grid.node(group[0]): group for group in grid.groups}
    asked = [Message(RecordDict({"job": settings}), node, "query.sight") for node in groups]
    blind: list[int] = []
    for reply in grid.replies(grid.push_messages(asked)):
        _check(reply)
        if not reply.content["sight"]["visible"]:
            blind.append(reply.metadata.src_node_id)
    sent: list[Message] = []
    for node in blind:
        records = {name: to_record(tensors) for name, tensors in job.equipment(groups[node]).items()}
        sent.append(Message(RecordDict({"job": settings, **records}), node, "train.equipment"))
    for reply in grid.replies(grid.push_messages(sent)):
        _check(reply)


def _check(reply: Message) -> None:
    if is_from_lost_worker(reply):
        raise LostWorkerError(f"a worker is gone ({reply.error.reason})", at="engine", remedy="give each more memory")
    if reply.has_error():
        cause = (reply.error.reason or "no reason given").strip().splitlines()[-1]
        raise EngineError(f"a worker failed ({cause})", at="engine", remedy="install the same on every machine")
