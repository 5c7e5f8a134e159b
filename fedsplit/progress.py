"""Tells whoever watches how far a long loop is, without any contract having to carry a progress bar."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Observer(Protocol):
    """Shows loops to a person; the command line has one, everybody else has none."""

    def started(self, description: str, total: int) -> object:
        """A loop of `total` steps begins; what is returned is handed back below."""
        ...

    def advanced(self, loop: object) -> None:
        """The loop finished one step."""
        ...

    def finished(self, loop: object) -> None:
        """The loop ended, by itself or by an exception."""
        ...


_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Loops tracked inside the block are shown by `observer`."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def current() -> Observer | None:
    """Whoever watches now."""
    return _observer.get()


def track(items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
    """The same items; whoever observes sees them pass."""
    observer = current()
    if observer is None:
        yield from items
        return
    loop = observer.started(description, total)
    try:
        for item in items:
            yield item
            observer.advanced(loop)
    finally:
        observer.finished(loop)
