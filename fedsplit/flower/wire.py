"""What crosses between server and clients: Flower records on the wire, messages of the federation on either side."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from torch import Tensor

from fedsplit.federation.cohort import Task, Update
from fedsplit.federation.messages import Down, Opening, Up
from fedsplit.flower.grid.array import to_record, to_tensors
from fedsplit.flower.grid.release import record_of

Message = Task | Update | Opening | Up | Down
"""Whatever may cross."""

_KINDS = {kind.__name__: kind for kind in get_args(Message)}
_KIND = "message"
_TENSORS, _NUMBERS = "tensors", "numbers"
_ENTRY = ":"
"""Between a field's path and a name in a state; no path holds one."""

_Reader = Callable[[str, Mapping[str, Any]], Any]


def pack(message: Message) -> RecordDict:
    """A message as one record of arrays, and one of numbers, each under the path of its field."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {_KIND: type(message).__name__}
    _collect("", message, tensors, numbers)
    return record_of(RecordDict, {_TENSORS: to_record(tensors), _NUMBERS: record_of(ConfigRecord, numbers)})


def unpack(content: RecordDict) -> Message:
    """What `pack` was given."""
    # By key: the views of a record by type keep it, and the memory of its tensors, alive until garbage is collected.
    settings, tensors = content[_NUMBERS], content[_TENSORS]
    assert isinstance(settings, ConfigRecord)
    assert isinstance(tensors, ArrayRecord)
    numbers: dict[str, Any] = dict(settings.items())
    kind = _KINDS[numbers.pop(_KIND)]
    return _reader(kind)("", {**numbers, **to_tensors(tensors)})


def _collect(path: str, value: object, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
    """Puts what a record holds under its path; what is None is left out."""
    if isinstance(value, Tensor):
        tensors[path] = value
    elif isinstance(value, dict):
        for name, entry in value.items():
            _collect(f"{path}{_ENTRY}{name}", entry, tensors, numbers)
    elif isinstance(value, tuple) and any(is_dataclass(part) for part in value):
        numbers[path] = len(value)
        for number, part in enumerate(value):
            _collect(f"{path}/{number}", part, tensors, numbers)
    elif isinstance(value, tuple):
        numbers[path] = list(value)
    elif is_dataclass(value):
        for name in _hints(type(value)):
            _collect(f"{path}/{name}", getattr(value, name), tensors, numbers)
    elif value is not None:
        numbers[path] = value


@cache
def _hints(kind: type[object]) -> dict[str, Any]:
    """The type of each field. To find them out takes longer than all the rest."""
    hints = get_type_hints(kind)
    assert is_dataclass(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


@cache
def _reader(hint: Any) -> _Reader:
    """Makes a value of this type of the leaves below its path; found once, as to look at types takes three times as
    long as to make the value."""
    if isinstance(hint, UnionType):
        read = _reader(next(one for one in get_args(hint) if one is not NoneType))
        return lambda path, leaves: read(path, leaves) if path in leaves else None
    if is_dataclass(hint):
        assert isinstance(hint, type)
        readers = [(name, f"/{name}", _reader(part)) for name, part in _hints(hint).items()]
        return lambda path, leaves: hint(**{name: read(path + step, leaves) for name, step, read in readers})
    if get_origin(hint) is dict:
        return _entries
    if get_origin(hint) is tuple:
        part = get_args(hint)[0]
        if not is_dataclass(part):
            return lambda path, leaves: tuple(leaves[path])
        read = _reader(part)
        return lambda path, leaves: tuple(
            read(f"{path}/{number}", leaves) for number in range(_count(leaves.get(path)))
        )
    return lambda path, leaves: leaves[path]


def _entries(path: str, leaves: Mapping[str, Any]) -> dict[str, Any]:
    start = f"{path}{_ENTRY}"
    return {name.removeprefix(start): leaf for name, leaf in leaves.items() if name.startswith(start)}


def _count(leaf: Any) -> int:
    # Nothing tells an empty tuple of records from one of numbers: both travel as an empty list.
    return leaf if isinstance(leaf, int) else 0
