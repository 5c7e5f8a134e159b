"""The driver's end of one worker: its actor, the line to it, and what it has before it."""

import select
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

import ray
from flwr.app import Message, Metadata
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from fedsplit.flower.grid.line import Line
from fedsplit.flower.grid.parcel import uncollected
from fedsplit.flower.grid.release import worker_lost
from fedsplit.flower.grid.worker import Greeting

_UNTIL_RAY_NOTICES_SECONDS = 60.0


class Link:
    """One worker, from its start to its loss."""

    def __init__(self, actor: ActorHandle[Any], greeting: ObjectRef[Greeting]) -> None:
        """`greeting`: the worker's answer to this process's invitation; the first message waits for it."""
        self._actor = actor
        self._greeting = greeting
        self._attending: ObjectRef[None] | None = None
        """The call in which the worker serves the line."""
        self._line: Line | None = None
        self.calls: deque[deque[Metadata]] = deque()
        """What is still to be answered, by pushes, in the order in which it was sent and will be."""
        self.lost = ""
        """Why the worker is gone; empty while it is not."""

    def send(self, messages: Sequence[Message]) -> list[Message]:
        """All of one push; the replies, at once, where the worker turns out to be lost."""
        requests = (message.metadata for message in messages)
        line = self._entered()
        if line is None:
            return [worker_lost(request, self.lost) for request in requests]
        # What has left is waited for, even where the rest cannot be sealed.
        call: deque[Metadata] = deque()
        with uncollected():
            for parcel in line.packed(messages):
                if not call:
                    self.calls.append(call)
                call += islice(requests, len(parcel.letters))
                line.send(parcel)
        return []

    def receive(self) -> list[Message]:
        """The replies that have come; those of all its calls where the worker turns out to be lost."""
        replies: list[Message] = []
        line = self._line
        assert line is not None, "who has calls before it has been sent some"
        try:
            line.flush()
            while self.calls and (parcel := line.receive()) is not None:
                with uncollected():
                    replies += parcel.opened()
                for _ in parcel.letters:
                    self.calls[0].popleft()
                    if not self.calls[0]:
                        self.calls.popleft()
        except OSError as error:  # the worker died before or after it answered
            replies += self._lose(self._cause(error))
        return replies

    def look(self) -> list[Message]:
        """The same where Ray says that the worker is gone, whatever the line says.

        A machine that vanishes does not hang up; neither does a child that a worker left, nor a worker whose machine
        Ray has lost.
        """
        assert self._attending is not None, "who has calls before it attends"
        if not self.calls or not ray.wait([self._attending], timeout=0)[0]:
            return []
        replies = self.receive()
        return replies + self._lose(self._cause(ConnectionError("it serves no longer"))) if self.calls else replies

    def watched(self, poll: select.poll) -> int:
        """Has `poll` tell, by this number, when something came or there is room for what is still to be sent."""
        assert self._line is not None, "who has calls before it has been sent some"
        return self._line.watched(poll)

    def ready(self, seconds: float) -> bool:
        """Whether the worker has started, or was lost, within so many seconds."""
        return bool(ray.wait([self._greeting], timeout=seconds)[0])

    def abandon(self, reason: str) -> None:
        """Waits no longer for a worker that cannot start."""
        self.lost = reason
        self.close()

    def close(self) -> None:
        """Ends the worker. What it still had before it is never answered."""
        if ray.is_initialized():
            ray.kill(self._actor)
        if self._line is not None:
            self._line.close()
            self._line = None
        self.calls.clear()

    def _entered(self) -> Line | None:
        """The line, from the worker's start to its loss."""
        if self._line is None and not self.lost:
            try:
                entrance, invitation = ray.get(self._greeting)
                shares_memory = invitation is not None and invitation.can_be_accepted()
                self._attending = self._actor.attend.remote(shares_memory)
                self._line = entrance.enter(shares_memory=shares_memory)
            except (RayError, OSError) as error:
                self._lose(error)
        return self._line

    def _cause(self, error: OSError) -> Exception:
        """What Ray says of the worker's end, which it may notice after the line did; else what the line says."""
        assert self._attending is not None, "who has calls before it attends"
        try:
            ray.get(self._attending, timeout=_UNTIL_RAY_NOTICES_SECONDS)
        except GetTimeoutError:
            return error
        except RayTaskError:  # the app's exceptions are replies, so this one is a bug of the grid
            raise
        except RayError as told:
            return told
        return error

    def _lose(self, error: Exception) -> list[Message]:
        # Ray tells at length; its first line says what happened.
        first, *_ = str(error).strip().splitlines() or [""]
        self.lost = f"{type(error).__name__}: {first}"
        requests = [request for requests in self.calls for request in requests]
        # It may still live, out of reach; whoever takes its place must be the only one.
        self.close()
        return [worker_lost(request, self.lost) for request in requests]
