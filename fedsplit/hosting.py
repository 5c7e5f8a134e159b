"""The clients that live in one process, as far as a training has met them: their rows, segments and conversations."""

from collections.abc import Callable

from fedsplit.errors import EngineError
from fedsplit.federation.cohort import Task, Update, blamed
from fedsplit.federation.conversation import Speaker
from fedsplit.federation.ledger import Recording
from fedsplit.federation.messages import Closing, Down, Failed, Opening, Up
from fedsplit.federation.plan import Plan
from fedsplit.protocols.base import Protocol
from fedsplit.records.images import Holding
from fedsplit.split import Home, Segments


class Host:
    """Runs the client's side of a protocol for any number of clients, one at a time."""

    def __init__(self, protocol: Protocol, plan: Plan, recording: Recording, holding: Callable[[int], Holding]) -> None:
        """`holding`: a client's prepared rows."""
        self._protocol = protocol
        self._plan = plan
        self._recording = recording
        self._holding = holding
        self._speakers: dict[int, tuple[Speaker, Home]] = {}
        self._failed: dict[int, Failed] = {}
        # Building a model costs more than loading a state into it: one serves client after client.
        self._beside: Segments | None = None
        self._free: list[Home] = []

    def local_round(self, task: Task) -> Update | Failed:
        """A client's whole round beside a server copy of its own."""
        if self._beside is None:
            self._beside = self._plan.segments()
        try:
            with blamed(task.opening):
                holding = self._holding(task.opening.client)
                return self._protocol.local_round(self._plan, self._beside, task, holding, self._recording)
        except EngineError as error:
            return Failed(str(error))

    def open(self, opening: Opening) -> None:
        """Begins a conversation; what is left of this client's earlier one is forgotten."""
        self._forget(opening.client)
        home = self._free.pop() if self._free else self._plan.home()
        try:
            with blamed(opening):
                holding = self._holding(opening.client)
                conversation = self._protocol.conversation(self._plan, home, opening, holding, self._recording)
        except EngineError as error:
            self._free.append(home)
            self._failed[opening.client] = Failed(str(error))
        else:
            self._speakers[opening.client] = Speaker(self._plan, opening, conversation), home

    def say(self, client: int, answer: Down | None) -> Up:
        """What a client says next; None where nothing was said before."""
        if client in self._failed:
            return self._failed.pop(client)
        try:
            said = self._speakers[client][0].say(answer)
        except EngineError as error:
            said = Failed(str(error))
        if isinstance(said, Closing | Failed):
            self._forget(client)
        return said

    def _forget(self, client: int) -> None:
        self._failed.pop(client, None)
        if client in self._speakers:
            self._free.append(self._speakers.pop(client)[1])
