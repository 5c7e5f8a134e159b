"""What this package takes from Flower beyond its public API, and so depends on Flower's release.

flwr is pinned to one release, and a new one is first of all a new version of this file: between releases the grid moved
(now `flwr.serverapp`), building a message came to need the identity of a running task, message numbers are set by
whoever delivers, and the codes of errors are private. flwr pins Ray in turn.
"""

from collections.abc import Mapping
from time import time
from typing import TypeAlias, TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, Metadata, RecordDict
from flwr.app.constants import DEFAULT_TTL
from flwr.app.message import make_message
from flwr.common.constant import NUM_PARTITIONS_KEY, PARTITION_ID_KEY, SUPERLINK_NODE_ID, ErrorCode, SType
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

__all__ = [
    "FIRST_NODE",
    "NUMPY_FORMAT",
    "Grid",
    "Run",
    "app_failed",
    "app_missing",
    "identify",
    "is_from_lost_worker",
    "new_context",
    "number",
    "parts",
    "record_of",
    "replied",
    "told",
    "whole",
    "worker_lost",
]

FIRST_NODE = SUPERLINK_NODE_ID + 1
"""The node of client 0: the server itself is a node, too, and zero is nobody."""

NUMPY_FORMAT: str = SType.NUMPY
"""How an Array says that its bytes are those of `np.save`."""

Parts: TypeAlias = tuple[tuple[object, ...], RecordDict | None, Error | None]
"""The fields of a message's metadata, its content and its error."""

_Record = TypeVar("_Record", ArrayRecord, ConfigRecord, RecordDict)
_EMPTY: dict[type[object], dict[str, object]] = {
    kind: kind().__dict__ for kind in (ArrayRecord, ConfigRecord, RecordDict)
}
_METADATA = make_message(Metadata(0, "", 0, 0, "", "", 0.0, DEFAULT_TTL, "query"), RecordDict()).metadata.__dict__
"""The fields, in their order, of a message that knows neither where it comes from nor where it goes."""


def identify(run: int) -> None:
    """Makes `Message(content, node, type)` work in this process, as if Flower had started it as the run's server."""
    TaskIdentity.run_id = run
    TaskIdentity.node_id = SUPERLINK_NODE_ID
    TaskIdentity.task_id = run


def number(message: Message, name: str) -> None:
    """Gives a message its id; its sender leaves that to the grid."""
    message.metadata.__dict__["_message_id"] = name


def parts(message: Message) -> Parts:
    """What a message holds, without the objects around it."""
    fields = message.__dict__
    return tuple(message.metadata.__dict__.values()), fields["_content"], fields["_error"]


def whole(parts: Parts) -> Message:
    """The message again."""
    values, records, error = parts
    return _message(dict(zip(_METADATA, values, strict=True)), records, error)


def told(content: RecordDict, node: int, kind: str) -> Message:
    """The same as `Message(content, node, kind)`, where all three are known to be right."""
    fields = {
        **_METADATA,
        "_run_id": TaskIdentity.run_id,
        "_src_node_id": TaskIdentity.node_id,
        "_dst_node_id": node,
        "_created_at": time(),
        "_message_type": kind,
        "_src_task_id": TaskIdentity.task_id,
    }
    return _message(fields, content)


def replied(content: RecordDict, request: Message) -> Message:
    """The same as `Message(content, reply_to=request)`."""
    asked = request.metadata.__dict__
    now = time()
    fields = {
        **_METADATA,
        "_run_id": asked["_run_id"],
        "_group_id": asked["_group_id"],
        "_message_type": asked["_message_type"],
        "_src_node_id": asked["_dst_node_id"],
        "_dst_node_id": asked["_src_node_id"],
        "_reply_to_message_id": asked["_message_id"],
        "_created_at": now,
        "_ttl": asked["_created_at"] + asked["_ttl"] - now,
        "_src_task_id": asked["_dst_task_id"],
        "_dst_task_id": asked["_src_task_id"],
    }
    return _message(fields, content)


def record_of(kind: type[_Record], entries: Mapping[str, object]) -> _Record:
    """A record of entries that are known to be of its types: to look at each again takes longer than all the rest."""
    record = kind.__new__(kind)
    record.__dict__.update(_EMPTY[kind], _data=dict(entries))
    return record


def new_context(run: int, client: int, clients: int) -> Context:
    """What a client app finds at its first message: no state yet, and which client of how many it is."""
    config = {PARTITION_ID_KEY: client, NUM_PARTITIONS_KEY: clients}
    return Context(run, FIRST_NODE + client, dict(config), RecordDict(), {})


def app_failed(request: Metadata, reason: str) -> Message:
    """The reply where the client app raised an exception."""
    return _error_reply(request, ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason)


def app_missing(request: Metadata, reason: str) -> Message:
    """The reply where the client app cannot be imported."""
    return _error_reply(request, ErrorCode.LOAD_CLIENT_APP_EXCEPTION, reason)


def worker_lost(request: Metadata, reason: str) -> Message:
    """The reply on behalf of a worker that will never answer."""
    return _error_reply(request, ErrorCode.CLIENT_APP_CRASHED, reason)


def is_from_lost_worker(reply: Message) -> bool:
    """Whether this is what `worker_lost` made."""
    return reply.has_error() and reply.error.code == ErrorCode.CLIENT_APP_CRASHED


def _message(fields: Mapping[str, object], content: RecordDict | None, error: Error | None = None) -> Message:
    metadata = Metadata.__new__(Metadata)
    metadata.__dict__.update(fields)
    message = Message.__new__(Message)
    message.__dict__.update(_metadata=metadata, _content=content, _error=error)
    return message


def _error_reply(request: Metadata, code: int, reason: str) -> Message:
    reply = Message(Error(code, reason), reply_to=make_message(request, RecordDict()))
    number(reply, f"{request.message_id}/reply")
    return reply
