"""The clients that live in one process, as far as a training has met them: their rows, segments and conversations."""

from collections.abc import Callable

from fedsplit.federation.cohort import Task, Update, blamed
from fedsplit.federation.conversation import Speaker
from fedsplit.federation.ledger import Recording
from fedsplit.federation.messages import Closing, Down, Opening, Up
from fedsplit.federation.plan import Plan
from fedsplit.protocols.base import Protocol
from fedsplit.records.images import Holding
from fedsplit.split import Segments


class Host:
    """Runs the client's side of a protocol for any number of clients, one at a time."""

    def __init__(self, protocol: Protocol, plan: Plan, recording: Recording, holding: Callable[[int], Holding]) -> None:
        """`holding`: a client's prepared rows."""
        self._protocol = protocol
        self._plan = plan
        self._recording = recording
        self._holding = holding
        self._speakers: dict[int, tuple[Speaker, Segments]] = {}
        # Building a model costs more than loading a state into it: segments serve one client after another.
        self._free: list[Segments] = []

    def local_round(self, task: Task) -> Update:
        """A client's whole round beside a server copy of its own."""
        with blamed(task.opening):
            segments = self._segments()
            holding = self._holding(task.opening.client)
            update = self._protocol.local_round(self._plan, segments, task, holding, self._recording)
            self._free.append(segments)
            return update

    def open(self, opening: Opening) -> None:
        """Begins a conversation; what is left of this client's earlier one is forgotten."""
        self._forget(opening.client)
        with blamed(opening):
            holding = self._holding(opening.client)
            segments = self._segments()
        conversation = self._protocol.conversation(self._plan, segments, opening, holding, self._recording)
        self._speakers[opening.client] = Speaker(self._plan, opening, conversation), segments

    def say(self, client: int, answer: Down | None) -> Up:
        """What a client says next; None where nothing was said before."""
        said = self._speakers[client][0].say(answer)
        if isinstance(said, Closing):
            self._forget(client)
        return said

    def _segments(self) -> Segments:
        return self._free.pop() if self._free else self._plan.segments()

    def _forget(self, client: int) -> None:
        if client in self._speakers:
            self._free.append(self._speakers.pop(client)[1])
