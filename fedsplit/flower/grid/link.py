"""The driver's end of one worker: its actor, the calls it has before it, and the memory they share."""

from collections.abc import Sequence
from typing import Any

import ray
from flwr.app import Message, Metadata
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError

from fedsplit.flower.grid.hallway import Invitation
from fedsplit.flower.grid.parcel import Parcel, Sealer, uncollected
from fedsplit.flower.grid.release import worker_lost
from fedsplit.flower.grid.segment import Inbox, Outbox


class Link:
    """One worker, from its start to its loss."""

    def __init__(self, actor: ActorHandle[Any], greeting: ObjectRef[Invitation | None]) -> None:
        """`greeting`: the worker's answer to this process's invitation; the first message waits for it."""
        self._actor = actor
        self._greeting = greeting
        self._shares_memory: bool | None = None
        self._inbox = Inbox()
        self._outbox = Outbox()
        self.calls: dict[ObjectRef[Parcel], tuple[Metadata, ...]] = {}
        """What is on its way, in the order in which it was sent."""
        self.lost = ""
        """Why the worker is gone; empty while it is not."""

    def send(self, messages: Sequence[Message]) -> list[Message]:
        """All in one call; the replies, at once, where the worker turns out to be lost."""
        requests = tuple(message.metadata for message in messages)
        if not self.lost:
            try:
                shares_memory = self._greeted()
            except RayError as error:
                self._lose(error)
            else:
                parcel = self._sealed(messages, shares_memory)
                self.calls[self._actor.exchange.remote(parcel, shares_memory)] = requests
                return []
        return [worker_lost(request, self.lost) for request in requests]

    def receive(self, reference: ObjectRef[Parcel]) -> list[Message]:
        """The replies of a call that is done; those of all its calls where the worker turns out to be lost."""
        try:
            parcel = ray.get(reference)
            with uncollected():
                replies = list(parcel.opened(self._inbox))
        except RayTaskError:  # the app's exceptions are replies, so this one is a bug of the grid
            raise
        except (RayError, OSError) as error:  # the worker died before or after it answered
            return self._lose(error)
        del self.calls[reference]
        return replies

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
        self._inbox.close()
        self._outbox.close()
        self.calls.clear()

    def _greeted(self) -> bool:
        if self._shares_memory is None:
            invitation = ray.get(self._greeting)
            self._shares_memory = invitation is not None and invitation.can_be_accepted()
        return self._shares_memory

    def _sealed(self, messages: Sequence[Message], shares_memory: bool) -> Parcel:
        sealer = Sealer(self._outbox if shares_memory else None, keeps=True)
        try:
            with uncollected():
                for message in messages:
                    sealer.add(message)
        except BaseException:
            sealer.discard()
            raise
        return sealer.parcel()

    def _lose(self, error: Exception) -> list[Message]:
        # Ray tells at length; its first line says what happened.
        first, *_ = str(error).strip().splitlines() or [""]
        self.lost = f"{type(error).__name__}: {first}"
        requests = [request for requests in self.calls.values() for request in requests]
        # It may still live, out of reach; whoever takes its place must be the only one.
        self.close()
        return [worker_lost(request, self.lost) for request in requests]
