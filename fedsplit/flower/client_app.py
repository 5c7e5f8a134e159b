"""What Flower runs in a worker: one node is one client, and a message is a local round, or one turn of a conversation.

For local rounds a worker serves any node at any time and keeps nothing that a client would miss elsewhere: what it
caches, another worker would build alike. A conversation goes on where it began, so it needs a grid with sticky workers.
"""

from functools import lru_cache

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedsplit.federation.cohort import Task
from fedsplit.federation.messages import CutGradient, Hidden, Opening, SharedGradient
from fedsplit.federation.roles import prepared_holding
from fedsplit.flower import wire
from fedsplit.flower.grid.array import to_tensors
from fedsplit.flower.grid.release import replied
from fedsplit.flower.job import Job
from fedsplit.hosting import Host
from fedsplit.numerics.allocation import keep_freed_memory
from fedsplit.records.images import Holding

app = ClientApp()


@app.query("sight")
def sight(message: Message, context: Context) -> Message:
    """Says whether this worker's machine sees the folder of a job."""
    del context
    job = Job.model_validate_json(_text(message.content))
    return Message(RecordDict({"sight": ConfigRecord({"visible": job.visible})}), reply_to=message)


@app.train("equipment")
def equipment(message: Message, context: Context) -> Message:
    """Keeps what this worker needs of a job whose folder its machine does not see."""
    del context
    _accept(message.content)
    return Message(RecordDict(), reply_to=message)


@app.train("belongings")
def belongings(message: Message, context: Context) -> Message:
    """Keeps the same at the node: Flower takes it to whichever process serves the node next."""
    context.state = message.content
    return Message(RecordDict(), reply_to=message)


@app.train("local_round")
def local_round(message: Message, context: Context) -> Message:
    """One local round, of the job that comes with it."""
    if context.state:
        _accept(context.state)
    task = wire.unpack(message.content)
    assert isinstance(task, Task)
    return _answered(message, _host(_text(message.content)).local_round(task))


@app.train("opening")
def opening(message: Message, context: Context) -> Message:
    """Begins a conversation of the job that comes with it, and says the first word."""
    first = wire.unpack(message.content)
    assert isinstance(first, Opening)

    host = _talking[_client(context)] = _host(_text(message.content))
    host.open(first)
    return _answered(message, host.say(first.client, None))


@app.train("answer")
def answer(message: Message, context: Context) -> Message:
    """Goes on with the conversation of this node."""
    heard, client = wire.unpack(message.content), _client(context)
    assert isinstance(heard, Hidden | CutGradient | SharedGradient)
    return _answered(message, _talking[client].say(client, heard))


_talking: dict[int, Host] = {}
"""The host of each client's conversation."""


def _answered(message: Message, said: wire.Message) -> Message:
    return replied(wire.pack(said), message)


def _client(context: Context) -> int:
    return int(context.node_config["partition-id"])


def _accept(content: RecordDict) -> None:
    records = {name: record for name, record in content.items() if isinstance(record, ArrayRecord)}
    Job.model_validate_json(_text(content)).accept({name: to_tensors(record) for name, record in records.items()})


def _text(content: RecordDict) -> str:
    text = content.config_records["job"]["settings"]
    assert isinstance(text, str)
    return text


@lru_cache(maxsize=1)
def _host(text: str) -> Host:
    job = Job.model_validate_json(text)
    # The process belongs to this training until the next one comes.
    torch.set_num_threads(job.plan.threads)
    keep_freed_memory()
    return Host(job.protocol, job.plan, job.recording, lru_cache(maxsize=64)(lambda client: _holding(job, client)))


def _holding(job: Job, client: int) -> Holding:
    """The client's prepared rows, built by the worker that needs them first."""
    found = job.prepared(client) if job.plan.defense.augments else job.private(client)
    if found is not None:
        return found
    private = job.private(client)
    assert private is not None, f"the folder of the job holds no rows of client {client}"
    prepared = prepared_holding(job.plan, client, private, job.public(), job.start_at_client())
    job.keep_prepared(client, prepared)
    return prepared
