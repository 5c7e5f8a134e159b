"""Images as a data set hands them out, and the rows of them that one party holds."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

Shape = tuple[int, int, int]
"""(channels, height, width)."""


@dataclass(frozen=True)
class Images:
    """A data set in memory.

    pixels: (n, channels, height, width), floating, in [0, 1]. labels: (n,) int64, below len(class_names).
    groups: (n,) int64; rows of one group (near-duplicates, one person) must never be parted.
    duplicates: exact copies that were dropped. notice: words that every output must carry, or empty.
    """

    pixels: Tensor
    labels: Tensor
    groups: Tensor
    class_names: tuple[str, ...]
    duplicates: int = 0
    notice: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, rows: Tensor) -> "Images":
        """The images of these rows, in this order."""
        return replace(self, pixels=self.pixels[rows], labels=self.labels[rows], groups=self.groups[rows])


@dataclass(frozen=True)
class Holding:
    """What one client holds.

    pixels: (n, channels, height, width). labels: (n,). weights: (n,), 1 for a true row. rows: (n,), the row in the
    data set, -1 for an image that the client made up. watched: (n,) bool, rows whose crossings the ledger keeps.
    """

    pixels: Tensor
    labels: Tensor
    weights: Tensor
    rows: Tensor
    watched: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, index: Tensor) -> "Holding":
        """The rows at these positions, in this order."""
        values = self.pixels, self.labels, self.weights, self.rows, self.watched
        # What indexing gives too, in two thirds of its time.
        return Holding(*(each.index_select(0, index) for each in values))

    def with_made(self, pixels: Tensor, labels: Tensor, weight: float) -> "Holding":
        """These rows, and behind them images that the client made up, each of this weight."""
        made = len(labels)
        return Holding(
            pixels=torch.cat([self.pixels, pixels.to(self.pixels)]),
            labels=torch.cat([self.labels, labels.to(self.labels)]),
            weights=torch.cat([self.weights, self.weights.new_full((made,), weight)]),
            rows=torch.cat([self.rows, self.rows.new_full((made,), -1)]),
            watched=torch.cat([self.watched, self.watched.new_zeros(made)]),
        )
