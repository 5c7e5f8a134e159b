"""What each party sees of one training step; the two halves are apart since no honest party holds both."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClientStep:
    """The client's half. features: (block name, output) of every block of the client segment, in order.

    images: (n, channels, height, width). smashed: what the last block gave, before it is released. labels: (n,).
    weights: (n,), of the rows in the task loss, which is their weighted sum divided by `mass`. gradient: of all that
    the client minimises, at the smashed data, for a defense that changes gradients after the backward pass; None
    before, and where no gradient gets there. expected: as in `mass_of`.
    """

    images: Tensor
    features: tuple[tuple[str, Tensor], ...]
    smashed: Tensor
    labels: Tensor
    weights: Tensor
    gradient: Tensor | None = None
    expected: float | None = None

    @property
    def mass(self) -> Tensor:
        """What the sum over the rows is divided by."""
        return mass_of(self.weights, self.expected)


@dataclass(frozen=True)
class Progress:
    """How far a training is. round: the one that is going on, from 1. rounds: of how many."""

    round: int
    rounds: int

    @property
    def left(self) -> int:
        """Rounds after this one."""
        return self.rounds - self.round

    @property
    def share(self) -> float:
        """Of the training that is done with this round: 1 in the last one."""
        return self.round / self.rounds


ONLY_ROUND = Progress(1, 1)
"""Of a training that is not parted into rounds."""


@dataclass(frozen=True)
class ServerStep:
    """The server's half. features: (block name, output) of every block of the server segment.

    logits: (n, classes), labels: (n,); both None where the head and the labels stay at the client. weights: (n,), of
    the rows in the task loss; None for equal ones. expected: as in `mass_of`.
    """

    features: tuple[tuple[str, Tensor], ...]
    logits: Tensor | None
    labels: Tensor | None
    weights: Tensor | None = None
    progress: Progress = ONLY_ROUND
    expected: float | None = None

    def mean(self, values: Tensor) -> Tensor:
        """Of (n,) values of the rows, as the task loss weighs them."""
        weights = torch.ones_like(values) if self.weights is None else self.weights
        return (values * weights).sum() / mass_of(weights, self.expected)


@dataclass(frozen=True)
class Passage:
    """A batch through one segment and back. inputs, outputs: (n, ...). gradient: of all that is minimised, at the
    outputs. mass: what that divides its sum over the rows by."""

    inputs: Tensor
    outputs: Tensor
    gradient: Tensor
    mass: Tensor


@dataclass(frozen=True)
class Draws:
    """How often a client's rows may have been trained on: in each of so many steps, every one with this chance."""

    rate: float
    steps: int


def mass_of(weights: Tensor, expected: float | None) -> Tensor:
    """The weight of a batch: its rows' own, (n,), together, or what is expected of a batch whose rows are drawn."""
    return weights.sum() if expected is None else weights.new_tensor(expected)
