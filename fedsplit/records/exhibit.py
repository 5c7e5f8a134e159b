"""What the pictures of one outcome are made of: never chosen by hand, always best, median and worst."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Exhibit:
    """values: (metric name, (targets,) score per target) for every metric that has one per target.

    nearest: (targets,) root mean square distance of each private image to its nearest auxiliary image.
    picks: positions of the targets whose headline score leaks most, is the median, and leaks least.
    private, anchor, reconstruction: (3, channels, height, width), the picked private images, the mean auxiliary image
    thrice, and the attack's guesses.
    map: (targets, components) principal components of the smashed data as released, the largest first.
    labels: (targets,) true classes.
    clean: (targets, components), where deployed clients change what is seen of the targets: what would have been seen
    otherwise, on the same axes, which then are its own principal ones. None where nothing is changed.
    """

    values: tuple[tuple[str, Tensor], ...]
    nearest: Tensor
    picks: tuple[int, int, int]
    private: Tensor
    anchor: Tensor
    reconstruction: Tensor
    map: Tensor
    labels: Tensor
    clean: Tensor | None = None
