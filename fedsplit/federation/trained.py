"""Where a federation stands between two rounds, and what it hands over when it is done."""

from dataclasses import dataclass, field

from fedsplit.federation.evaluation import Evaluation
from fedsplit.federation.ledger import Ledger
from fedsplit.federation.plan import State


@dataclass(frozen=True)
class Standing:
    """After `round` rounds. client: all that a client holds, the head included. server: the server segment.

    memories: by client, the optimisers of its segment and of its server copy. server_memory: of the one server segment,
    common_memory: of the one client segment, where there is but one. apart: by client, its own segment, where clients
    never share theirs.
    """

    round: int
    client: State
    server: State
    memories: dict[int, tuple[State, State]] = field(default_factory=dict)
    server_memory: State = field(default_factory=dict)
    common_memory: State = field(default_factory=dict)
    apart: dict[int, State] = field(default_factory=dict)
    losses: tuple[float, ...] = ()
    """Mean task loss of each round so far."""
    bytes: tuple[int, int] = (0, 0)
    """(up, down) so far."""
    steps: int = 0
    dropped: int = 0
    """How often a client that took part in a round did not return from it."""
    seconds: float = field(default=0.0, compare=False)
    """Wall time of the rounds so far: no part of what was computed."""

    @property
    def deployed(self) -> tuple[State, ...]:
        """The client segments that answer at inference: one for all clients, or each client's own."""
        return tuple(self.apart[client] for client in sorted(self.apart)) or (self.client,)

    def held_by(self, client: int) -> State:
        """What a client begins its next round with."""
        return self.apart.get(client, self.client)


@dataclass(frozen=True)
class Trained:
    """The deployed segments, what the ledger kept, and what the model is worth."""

    standing: Standing
    ledger: Ledger
    evaluation: Evaluation

    @property
    def accuracy(self) -> float:
        """Share of test images that the deployed, defended model gets right."""
        return self.evaluation.accuracy
