"""Which rows of a client make a batch, and how many batches make an epoch."""

from collections.abc import Iterator
from math import ceil

import torch
from torch import Generator, Tensor

from fedsplit.defenses.base import Sampling
from fedsplit.records.images import Holding


def batches(sampling: Sampling, rows: int, size: int, rng: Generator) -> Iterator[Tensor]:
    """The places of one epoch's batches among so many rows."""
    return _drawn(rows, size, rng) if sampling == "poisson" else _shuffled(rows, size, rng)


def batch_count(rows: int, size: int) -> int:
    """How many batches an epoch has, however they are drawn."""
    return max(1, ceil((rows - 1) / size))


def step_count(rows: int, size: int, epochs: int, share: float) -> int:
    """How many steps a client makes in a round of which it gets this share done."""
    return ceil(share * epochs * batch_count(rows, size))


def rate(rows: int, size: int) -> float:
    """The chance of each row to be in a batch that is drawn."""
    return min(1.0, size / rows)


def expected_mass(sampling: Sampling, holding: Holding, size: int) -> float | None:
    """What a drawn batch weighs on average; None where batches are not drawn."""
    return rate(len(holding), size) * float(holding.weights.sum()) if sampling == "poisson" else None


def _shuffled(rows: int, size: int, rng: Generator) -> Iterator[Tensor]:
    """All rows once, in random order. A last batch of one row joins the one before it: it has no variance."""
    order = torch.randperm(rows, generator=rng)
    cuts = list(range(0, rows, size))
    if len(cuts) > 1 and rows - cuts[-1] == 1:
        cuts.pop()
    for start, stop in zip(cuts, [*cuts[1:], rows], strict=True):
        yield order[start:stop]


def _drawn(rows: int, size: int, rng: Generator) -> Iterator[Tensor]:
    """Every row into every batch by a coin of its own (Poisson sampling); a batch may be empty."""
    for _ in range(batch_count(rows, size)):
        yield (torch.rand(rows, generator=rng, dtype=torch.float64) < rate(rows, size)).nonzero().flatten()
