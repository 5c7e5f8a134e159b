"""What Flower runs in a worker: one node is one client, and a message is one local round.

A worker serves any node at any time and keeps nothing that a client would miss elsewhere: what it caches, another
worker would build alike.
"""

from functools import lru_cache

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedsplit.errors import EngineError
from fedsplit.federation.roles import Task, Update, blamed, prepared_holding
from fedsplit.flower.job import Job
from fedsplit.flower.wire import pack_update, unpack_task
from fedsplit.records.images import Holding
from fedsplit.split import Segments

app = ClientApp()


@app.query("partition")
def partition(message: Message, context: Context) -> Message:
    """Says which client this node is; Flower numbers nodes at random."""
    client = context.node_config["partition-id"]
    return Message(RecordDict({"node": ConfigRecord({"client": int(client)})}), reply_to=message)


@app.train("local_round")
def local_round(message: Message, context: Context) -> Message:
    """One local round; a failure is an answer, too, so that its cause reaches the user in one line."""
    del context
    try:
        content = pack_update(_trained(*unpack_task(message.content)))
    except EngineError as error:
        content = RecordDict({"failure": ConfigRecord({"line": str(error)})})
    return Message(content, reply_to=message)


def _trained(text: str, task: Task) -> Update:
    with blamed(task):
        job = _job(text)
        with job.plan.threaded():
            holding = _holding(text, task.client)
            return job.protocol.local_round(job.plan, _segments(text), task, holding, job.recording)


@lru_cache(maxsize=1)
def _job(text: str) -> Job:
    return Job.model_validate_json(text)


@lru_cache(maxsize=1)
def _segments(text: str) -> Segments:
    # A local round overwrites them, so one pair serves all clients.
    return _job(text).plan.segments()


@lru_cache(maxsize=64)
def _holding(text: str, client: int) -> Holding:
    """The client's prepared rows, built by the worker that needs them first."""
    job = _job(text)
    found = job.holding("prepared", client)
    if found is not None:
        return found
    private = job.holding("private", client)
    assert private is not None, f"the folder of the job holds no rows of client {client}"
    prepared = prepared_holding(job.plan, client, private, job.public(), job.start().client)
    job.write_holding("prepared", client, prepared)
    return prepared
