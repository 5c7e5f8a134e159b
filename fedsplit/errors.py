"""The few ways in which fedsplit says no, each on one line that tells the way out."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

_NOTHING = object()
_LONGEST_VALUE = 120


class FedsplitError(Exception):
    """What a user can mend: where it is, the value found, the reason, the remedy."""

    exit_code: ClassVar[int] = 1

    def __init__(self, reason: str, *, at: str = "", value: object = _NOTHING, remedy: str = "") -> None:
        self.reason = reason
        self.at = at
        self.value = value
        self.remedy = remedy
        shown = "" if value is _NOTHING else _shorten(repr(value))
        line = ": ".join(part for part in (at, shown, reason) if part)
        super().__init__(_one_line(f"{line}; {remedy}" if remedy else line))

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process borders by their positional arguments alone, so the finished line travels.
        return (_restore, (type(self), str(self)))


class ScenarioError(FedsplitError):
    """The scenario file asks for something that does not exist or cannot be."""

    exit_code: ClassVar[int] = 2


class PluginError(FedsplitError):
    """Code named by a scenario or an entry point cannot be used."""

    exit_code: ClassVar[int] = 3


class DataError(FedsplitError):
    """The images are missing, broken, or too few."""

    exit_code: ClassVar[int] = 4


class EngineError(FedsplitError):
    """Training, an attack or a metric failed while it ran."""

    exit_code: ClassVar[int] = 5


class ControlError(FedsplitError):
    """An outcome is invalid and the user asked for strictness."""

    exit_code: ClassVar[int] = 6


@contextmanager
def blaming(at: str) -> Iterator[None]:
    """Whatever fails inside (a plug-in may fail in any way) becomes one EngineError that says where and why."""
    try:
        yield
    except FedsplitError:
        raise
    except Exception as error:
        cause = f"failed ({type(error).__name__}: {error})"
        raise EngineError(cause, at=at, remedy="mend it or leave it out; finished cells are not run again") from error


def _restore(kind: type[FedsplitError], line: str) -> FedsplitError:
    return kind(line)


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


def _one_line(text: str) -> str:
    return " ".join(text.split())
