"""What crosses between server and clients: Flower records on the wire, messages of the federation on either side."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from torch import Tensor

from fedsplit.federation.cohort import Task, Update
from fedsplit.federation.messages import Down, Opening, Up
from fedsplit.flower.grid.array import to_record, to_tensors

Message = Task | Update | Opening | Up | Down
"""Whatever may cross."""

_KINDS = {kind.__name__: kind for kind in get_args(Message)}
_KIND = "message"
_TENSORS, _NUMBERS = "tensors", "numbers"
_ENTRY = ":"
"""Between a field's path and a name in a state; no path holds one."""

_Record = TypeVar("_Record")


def pack(message: Message) -> RecordDict:
    """A message as one record of arrays, and one of numbers, each under the path of its field."""
    leaves = dict(_leaves("", message))
    tensors = {path: leaf for path, leaf in leaves.items() if isinstance(leaf, Tensor)}
    numbers = {path: leaf for path, leaf in leaves.items() if not isinstance(leaf, Tensor)}
    named: dict[str, Any] = {_KIND: type(message).__name__, **numbers}
    return RecordDict({_TENSORS: to_record(tensors), _NUMBERS: ConfigRecord(named)})


def unpack(content: RecordDict) -> Message:
    """What `pack` was given."""
    # By key: the views of a record by type keep it, and the memory of its tensors, alive until garbage is collected.
    settings, tensors = content[_NUMBERS], content[_TENSORS]
    assert isinstance(settings, ConfigRecord)
    assert isinstance(tensors, ArrayRecord)
    numbers: dict[str, Any] = dict(settings)
    kind = _KINDS[numbers.pop(_KIND)]
    return _built(kind, "", {**numbers, **to_tensors(tensors)})


def _leaves(path: str, value: object) -> Iterator[tuple[str, object]]:
    """Tensors and numbers of a record by path; what is None is left out."""
    if is_dataclass(value):
        for field in fields(value):
            yield from _leaves(f"{path}/{field.name}", getattr(value, field.name))
    elif isinstance(value, dict):
        yield from ((f"{path}{_ENTRY}{name}", entry) for name, entry in value.items())
    elif isinstance(value, tuple) and any(is_dataclass(part) for part in value):
        yield path, len(value)
        for number, part in enumerate(value):
            yield from _leaves(f"{path}/{number}", part)
    elif isinstance(value, tuple):
        yield path, list(value)
    elif value is not None:
        yield path, value


def _built(kind: type[_Record], path: str, leaves: Mapping[str, Any]) -> _Record:
    return kind(**{name: _value(hint, f"{path}/{name}", leaves) for name, hint in _hints(kind).items()})


@cache
def _hints(kind: type[object]) -> dict[str, Any]:
    """The type of each field: reading them takes longer than the rest of a small message."""
    return get_type_hints(kind)


def _value(hint: Any, path: str, leaves: Mapping[str, Any]) -> Any:
    if isinstance(hint, UnionType):
        hint = next(one for one in get_args(hint) if one is not NoneType)
        if path not in leaves:
            return None
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return _built(hint, path, leaves)
    if get_origin(hint) is dict:
        start = f"{path}{_ENTRY}"
        return {name.removeprefix(start): leaf for name, leaf in leaves.items() if name.startswith(start)}
    if get_origin(hint) is tuple:
        part = get_args(hint)[0]
        if is_dataclass(part):
            return tuple(_value(part, f"{path}/{number}", leaves) for number in range(_count(leaves.get(path))))
        return tuple(leaves[path])
    return leaves[path]


def _count(leaf: Any) -> int:
    # Nothing tells an empty tuple of records from one of numbers: both travel as an empty list.
    return leaf if isinstance(leaf, int) else 0
