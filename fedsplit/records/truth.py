"""The private images behind a leak. Only `simulate` builds one and only metrics may look at it."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Truth:
    """images: (targets, channels, height, width) in [0, 1]. labels: (targets,). Both in the order of the leak.

    Where the targets are classes, `labels` are those that each guess is to show, and `images` are private images of
    them, one per guess; population: all private images and their labels then, else None.
    """

    images: Tensor
    labels: Tensor
    population: tuple[Tensor, Tensor] | None = None
