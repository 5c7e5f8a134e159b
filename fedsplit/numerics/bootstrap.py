"""Percentile bootstrap intervals: over images, over clusters of them, over victim trainings (Efron 1979; Davison &
Hinkley 1997, 3.8; where every training has the same clusters: Owen, "The pigeonhole bootstrap", Annals of Applied
Statistics 2007)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

SEEDS_FOR_AN_INTERVAL = 3
"""From this many victim trainings on, the interval covers them too; below it says something about images only."""

_LEVELS = (0.025, 0.975)
_DRAWN = 2**21
"""Values in memory at a time, about."""


@dataclass(frozen=True)
class Interval:
    """The statistic of all samples, and the bounds of its 95 % percentile bootstrap interval."""

    mean: float
    low: float
    high: float


def mean(values: Tensor) -> float:
    """The statistic of most, in float64."""
    return float(values.double().mean())


def interval(
    samples: Sequence[Tensor],
    statistic: Callable[[Tensor], float],
    rng: Generator,
    resamples: int = 2000,
    clusters: Sequence[Tensor] | None = None,
) -> Interval:
    """samples: one (images, ...) tensor of evidence per victim training, none empty. clusters: one (images,) tensor of
    numbers per training, the same numbers in all of them, where images with the same number resemble each other.

    The estimate is the mean over trainings of `statistic`. Every replicate draws images with replacement inside each
    training and, from three trainings on, first the trainings themselves; between the two the clusters, the same for
    all trainings. What comes of it is a percentile interval: with few trainings or clusters it is somewhat too narrow,
    and it inherits the bias of a statistic that depends on how many different images there are (a Frechet distance),
    so that it may then lie beside the estimate.

    Values that are not finite are never left out: with one of them all three numbers are nan, and where the statistic
    of the samples or of a replicate is not finite, low and high, which means that there is no interval.
    """
    assert samples, "an interval needs a training"
    assert all(len(sample) for sample in samples), "a training without targets has no score"
    if not all(bool(sample.isfinite().all()) for sample in samples):
        return Interval(math.nan, math.nan, math.nan)
    estimate = _average([statistic(sample) for sample in samples])
    if not math.isfinite(estimate):
        return Interval(estimate, math.nan, math.nan)
    members = _members(samples, clusters)
    if statistic is mean and all(sample.dim() == 1 for sample in samples):
        found = _means(samples, members, rng, resamples)
    else:
        drawn = [_replicate(samples, members, statistic, rng) for _ in range(resamples)]
        found = torch.tensor(drawn, dtype=torch.float64)
    if not found.isfinite().all():
        return Interval(estimate, math.nan, math.nan)
    low, high = torch.quantile(found, torch.tensor(_LEVELS, dtype=torch.float64)).tolist()
    return Interval(estimate, low, high)


def _replicate(
    samples: Sequence[Tensor],
    members: Sequence[Sequence[Tensor]],
    statistic: Callable[[Tensor], float],
    rng: Generator,
) -> float:
    trainings = _drawn(len(samples), rng) if len(samples) >= SEEDS_FOR_AN_INTERVAL else torch.arange(len(samples))
    picked = _drawn(len(members[0]), rng).tolist()
    return _average([statistic(samples[one][_rows(members[one], picked, rng)]) for one in trainings.tolist()])


def _means(samples: Sequence[Tensor], members: Sequence[Sequence[Tensor]], rng: Generator, resamples: int) -> Tensor:
    """The replicates of the mean, all in one piece: several times as fast. Its draws are others."""
    trainings = torch.arange(len(samples)).expand(resamples, -1)
    if len(samples) >= SEEDS_FOR_AN_INTERVAL:
        trainings = torch.randint(len(samples), trainings.shape, generator=rng)
    picked = torch.zeros(resamples, 1, dtype=torch.long)
    if len(members[0]) > 1:
        picked = torch.randint(len(members[0]), (resamples, len(members[0])), generator=rng)
    # By replicate, drawn training and drawn cluster: the sum of what was drawn, and how much that is.
    sums = torch.empty(*trainings.shape, picked.shape[1], dtype=torch.float64)
    counts = torch.empty_like(sums)
    for training, clustered in enumerate(members):
        for cluster, rows in enumerate(clustered):
            places = ((trainings == training)[:, :, None] & (picked == cluster)[:, None, :]).nonzero()
            own = samples[training][rows].double()
            for part in places.split(max(1, _DRAWN // len(rows))):
                drawn = torch.randint(len(rows), (len(part), len(rows)), generator=rng)
                sums[*part.unbind(1)] = own[drawn].sum(1)
                counts[*part.unbind(1)] = len(rows)
    return (sums.sum(2) / counts.sum(2)).mean(1)


def _members(samples: Sequence[Tensor], clusters: Sequence[Tensor] | None) -> list[list[Tensor]]:
    """By training and cluster, the rows; all of a training are one cluster where there are none."""
    if clusters is None:
        return [[torch.arange(len(sample))] for sample in samples]
    numbers = [own.unique() for own in clusters]
    assert all(torch.equal(own, numbers[0]) for own in numbers), "trainings with the same clusters"
    return [[(own == number).nonzero().squeeze(1) for number in numbers[0]] for own in clusters]


def _rows(members: Sequence[Tensor], picked: Sequence[int], rng: Generator) -> Tensor:
    return torch.cat([members[cluster][_drawn(len(members[cluster]), rng)] for cluster in picked])


def _drawn(count: int, rng: Generator) -> Tensor:
    """Of so many as many, with replacement. One alone needs no random number."""
    return torch.randint(count, (count,), generator=rng) if count > 1 else torch.zeros(count, dtype=torch.long)


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values)
