"""Who serves the clients: the server of the protocol, or what an active attack has put in its place."""

from math import isfinite

import torch
from torch import Tensor

from fedsplit.errors import EngineError, blaming
from fedsplit.federation.hijacking import Hijacking
from fedsplit.federation.messages import Crossing, CutGradient, Hidden, HiddenGradient
from fedsplit.federation.plan import Plan, State
from fedsplit.federation.roles import HonestServer, Server
from fedsplit.federation.trained import Standing
from fedsplit.numerics.finite import all_finite
from fedsplit.records.step import Progress
from fedsplit.split import Segment


def server_of(plan: Plan, segment: Segment, standing: Standing, rounds: int) -> Server:
    """The plan's server as it begins the round after this standing; `segment` is in training mode with its state.

    rounds: of the whole training."""
    if plan.hijacking is None:
        number = standing.round + 1
        rng = plan.seeds("server", number)
        return HonestServer(plan, segment, standing.server_memory, rng, Progress(number, rounds))
    return HijackedServer(plan, plan.hijacking, segment, standing)


class HijackedServer(Server):
    """Keeps the form of the protocol: each crossing is answered by a gradient, but an impostor says which.

    Its own segment never moves. Where the head is at the client (U-shaped) it hands on that segment's features, and
    takes no notice of the gradient that comes back for them.
    """

    def __init__(self, plan: Plan, hijacking: Hijacking, segment: Segment, standing: Standing) -> None:
        """`segment` is in training mode with this round's state."""
        self.segment = segment
        self.losses: list[float] = []
        self._at = f"attack {hijacking.name}"
        self._seeds = plan.seeds.child("hijack", standing.round + 1)
        with blaming(self._at):
            memory = {name: value.to(plan.device, copy=True) for name, value in standing.server_memory.items()}
            self._impostor = hijacking.impostor(memory)
        self._waiting: Tensor | None = None

    @property
    def memory(self) -> State:
        """The impostor's, whatever is agreed about the state of optimisers."""
        return {name: value.detach().cpu().clone() for name, value in self._impostor.memory.items()}

    def answer(self, message: Crossing | HiddenGradient) -> Hidden | CutGradient:
        """The impostor's gradient, as soon as one is due."""
        if isinstance(message, Crossing) and message.labels is None:
            self._waiting = message.smashed
            with torch.no_grad():
                return Hidden(self.segment(message.smashed))
        smashed = message.smashed if isinstance(message, Crossing) else self._waiting
        assert smashed is not None, "a gradient came before a crossing"
        self._waiting = None
        # Of no rows nothing can be learned, and nothing is to be answered.
        return CutGradient(self._gradient(smashed) if len(smashed) else torch.zeros_like(smashed))

    def move(self) -> None:
        """The segment stays; the impostor has learned what it wanted."""

    def _gradient(self, smashed: Tensor) -> Tensor:
        with blaming(self._at):
            gradient, loss = self._impostor.answer(smashed.clone(), self._seeds(len(self.losses)))
        if gradient.shape != smashed.shape:
            reason = f"answers {tuple(smashed.shape)} smashed values with a gradient of shape {tuple(gradient.shape)}"
            raise EngineError(reason, at=self._at, remedy="mend its impostor")
        if not (isfinite(loss) and all_finite(gradient)):
            raise EngineError("its gradient is no longer finite", at=self._at, remedy="lower its learning rates")
        self.losses.append(loss)
        return gradient.detach()
