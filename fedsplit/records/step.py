"""What each party sees of one training step; the two halves are apart since no honest party holds both."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ClientStep:
    """The client's half. features: (block name, output) of every block of the client segment, in order.

    images: (n, channels, height, width). smashed: what the last block gave, before it is released. labels: (n,).
    weights: (n,), of the rows in the task loss, which is their weighted mean. gradient: of all that the client
    minimises, at the smashed data, for a defense that changes gradients after the backward pass; None before, and where
    no gradient gets there.
    """

    images: Tensor
    features: tuple[tuple[str, Tensor], ...]
    smashed: Tensor
    labels: Tensor
    weights: Tensor
    gradient: Tensor | None = None


@dataclass(frozen=True)
class ServerStep:
    """The server's half. features: (block name, output) of every block of the server segment.

    logits: (n, classes), labels: (n,); both None where the head and the labels stay at the client.
    """

    features: tuple[tuple[str, Tensor], ...]
    logits: Tensor | None
    labels: Tensor | None
