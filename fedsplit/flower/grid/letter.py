"""A message as one pickle of plain values, with its arrays beside it.

To pickle Flower's objects as they are takes three times as long: each names its class, its checks and NumPy's types.
"""

import pickle
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fedsplit.flower.grid.array import DirectArray
from fedsplit.flower.grid.release import parts, record_of, whole

RecordType: TypeAlias = ArrayRecord | ConfigRecord | MetricRecord
Plain: TypeAlias = "tuple[int, Any]"
"""What kind of record it was, and what it takes to make it again."""

_ARRAYS, _SETTINGS, _OTHER = range(3)


class Letter(NamedTuple):
    """A sealed message."""

    pickled: bytes
    buffers: list[pickle.PickleBuffer]
    """The memory of its arrays, not yet copied."""


def sealed(message: Message) -> Letter:
    """The message as it goes into a parcel."""
    metadata, content, error = parts(message)
    records = None if content is None else {name: _plain(record) for name, record in content.items()}
    buffers: list[pickle.PickleBuffer] = []
    plain = (metadata, records, error)
    return Letter(pickle.dumps(plain, pickle.HIGHEST_PROTOCOL, buffer_callback=buffers.append), buffers)


def unsealed(pickled: bytes | memoryview, buffers: Iterable[Any]) -> Message:
    """The message again; its arrays are where the buffers are."""
    metadata, records, error = pickle.loads(pickled, buffers=buffers)
    if records is not None:
        records = record_of(RecordDict, {name: _record(*plain) for name, plain in records.items()})
    return whole((metadata, records, error))


def _plain(record: RecordType) -> Plain:
    if type(record) is ConfigRecord:
        return _SETTINGS, dict(record.items())
    if type(record) is ArrayRecord:
        apart = {name: array.apart() if type(array) is DirectArray else None for name, array in record.items()}
        if None not in apart.values():
            return _ARRAYS, apart
    return _OTHER, record


def _record(kind: int, entries: Any) -> object:
    if kind == _SETTINGS:
        return record_of(ConfigRecord, entries)
    if kind == _ARRAYS:
        return record_of(ArrayRecord, {name: DirectArray.together(*apart) for name, apart in entries.items()})
    return entries
