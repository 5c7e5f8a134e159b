"""What a client and the server tell each other during one round. All tensors are detached."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedsplit.federation.plan import State
from fedsplit.records.exchange import Exchange
from fedsplit.records.step import mass_of


@dataclass(frozen=True)
class Opening:
    """Where a client begins its round.

    state: of all blocks it holds. memory: of its optimiser. share: of its steps that it gets done before it closes.
    returns: whether it closes with what it then holds, or has dropped out.
    """

    round: int
    client: int
    state: State
    memory: State
    share: float = 1.0
    returns: bool = True


@dataclass(frozen=True)
class Crossing:
    """What goes up at one step. smashed: (n, *cut shape), as released. weights: (n,).

    labels: (n,), None where they stay home. expected: as in `mass_of`.
    """

    smashed: Tensor
    labels: Tensor | None
    weights: Tensor
    expected: float | None = None

    @property
    def mass(self) -> Tensor:
        """What the loss divides its sum over the rows by."""
        return mass_of(self.weights, self.expected)

    @property
    def bytes(self) -> int:
        """Size of the smashed data and the labels; weights are 1 unless rows were made up, and are not counted."""
        return sum(size_of(tensor) for tensor in (self.smashed, self.labels) if tensor is not None)


@dataclass(frozen=True)
class Hidden:
    """U-shaped: the server's last features, (n, *hidden shape), on their way to the head."""

    features: Tensor


@dataclass(frozen=True)
class HiddenGradient:
    """U-shaped: the gradient at the server's last features, (n, *hidden shape), on its way back to the server."""

    gradient: Tensor


@dataclass(frozen=True)
class CutGradient:
    """The gradient at the cut of the loss of the client's own rows, by their own mass, (n, *cut shape)."""

    gradient: Tensor


@dataclass(frozen=True)
class OwnGradient:
    """The gradient of all that a client holds, by parameter, where clients step together."""

    values: State


@dataclass(frozen=True)
class SharedGradient:
    """The joint gradient of all clients that take this step, by parameter."""

    values: State


@dataclass(frozen=True)
class Closing:
    """What a client has after its round.

    returns: False where it has dropped out; state and memory are then empty. state: of all blocks it holds. memory: of
    its optimiser, where that goes on. examples: true rows it holds. steps: how often it crossed the cut, and bytes:
    (up, down) over all of them. losses: of its steps, where the labels stay home.
    """

    client: int
    returns: bool
    examples: int
    steps: int
    state: State
    memory: State
    exchanges: tuple[Exchange, ...]
    losses: tuple[float, ...]
    bytes: tuple[int, int]


@dataclass(frozen=True)
class Failed:
    """A client cannot go on. line: client, round, cause and remedy."""

    line: str


Up = Crossing | HiddenGradient | OwnGradient | Closing | Failed
"""What a client says."""
Down = Hidden | CutGradient | SharedGradient
"""What it is answered."""


def size_of(tensor: Tensor) -> int:
    """Bytes of a tensor's values."""
    return tensor.numel() * tensor.element_size()


def joined(crossings: tuple[Crossing, ...]) -> Crossing:
    """Several clients' crossings as one, in this order."""
    labels = [crossing.labels for crossing in crossings if crossing.labels is not None]
    expected = [crossing.expected for crossing in crossings if crossing.expected is not None]
    return Crossing(
        torch.cat([crossing.smashed for crossing in crossings]),
        torch.cat(labels) if labels else None,
        torch.cat([crossing.weights for crossing in crossings]),
        sum(expected) if expected else None,
    )
