"""The clients of a federation, wherever they are."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from fedsplit.errors import EngineError
from fedsplit.federation.messages import Closing, Down, Failed, Opening, Up
from fedsplit.federation.plan import State


@dataclass(frozen=True)
class Task:
    """One client's local round with a server copy of its own: where both start."""

    opening: Opening
    server_state: State
    server_memory: State


@dataclass(frozen=True)
class Update:
    """What one local round gave. losses: the task loss of each step, where the labels are at the server."""

    closing: Closing
    server_state: State
    server_memory: State
    losses: tuple[float, ...]


class LostWorkerError(EngineError):
    """The process that hosts a client is gone: no fault of the client, and another process can do the same."""


class Cohort(ABC):
    """The clients of a federation. A failure of one is what it says; a lost worker is a LostWorkerError."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many clients there are."""

    @abstractmethod
    def local_rounds(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Update | Failed]]:
        """Runs one local round at each named client; (client, what it gave) as they come."""

    @abstractmethod
    def open(self, openings: Sequence[Opening]) -> None:
        """Begins a conversation with each of these clients; what is left of earlier rounds is forgotten."""

    @abstractmethod
    def post(self, answers: Mapping[int, Down]) -> None:
        """Answers what these clients said last. Returns at once: clients go on while others are listened to."""

    @abstractmethod
    def take(self, client: int) -> Up:
        """What this client says next; waits for it."""

    def restore(self) -> None:
        """After a worker was lost: whatever it takes to begin the round again."""
        raise AssertionError("there are no workers to be lost")


@contextmanager
def blamed(opening: Opening) -> Iterator[None]:
    """Whatever fails inside becomes one EngineError that says which client, which round, and why."""
    at = f"client {opening.client}, round {opening.round}"
    try:
        yield
    except EngineError as error:
        raise EngineError(error.reason, at=at, remedy=error.remedy) from error
    except Exception as error:
        cause = f"training failed ({type(error).__name__}: {error})"
        raise EngineError(cause, at=at, remedy="mend the cause; the run goes on from the last round") from error
