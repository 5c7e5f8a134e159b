"""What numbers depend on and a scenario only names: files, and code that fedsplit does not ship."""

import hashlib
import sys
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel


def origins(settings: BaseModel, without: Collection[str] = ()) -> tuple[str, ...]:
    """A line for each file that these settings name, and for each class among them that somebody else wrote: its name,
    and the SHA-256 of the file, or of the one that defines the class. What that imports in turn is not looked at.

    without: fields of the settings that do not matter.
    """
    fields = {name: value for name, value in _fields(settings) if name not in without}
    return tuple(sorted({line for value in fields.values() for line in _lines(value)}))


def _fields(settings: BaseModel) -> Iterator[tuple[str, object]]:
    return ((name, getattr(settings, name)) for name in type(settings).model_fields)


def _lines(value: object) -> Iterator[str]:
    if isinstance(value, Path):
        if value.is_file():
            yield f"{value} {_digest(value)}"
    elif isinstance(value, BaseModel):
        yield from _code(type(value))
        for _, own in _fields(value):
            yield from _lines(own)
    elif isinstance(value, dict):
        for one in value.values():
            yield from _lines(one)
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _lines(one)


def _code(member: type) -> Iterator[str]:
    # A module that was typed in has no file.
    source = getattr(sys.modules.get(member.__module__), "__file__", None)
    if source is not None and not member.__module__.startswith("fedsplit."):
        yield f"{member.__module__}:{member.__qualname__} {_digest(Path(source))}"


def _digest(path: Path) -> str:
    found = path.stat()
    return _digest_of(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=256)
def _digest_of(path: Path, size: int, changed: int) -> str:
    del size, changed
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
