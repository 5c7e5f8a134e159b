"""Percentile bootstrap intervals, over images and over victim trainings (Efron 1979; Davison & Hinkley 1997, 3.8)."""

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


def interval(
    samples: Sequence[Tensor], statistic: Callable[[Tensor], float], rng: Generator, resamples: int = 2000
) -> Interval:
    """samples: one (images, ...) tensor of evidence per victim training, none empty.

    The estimate is the mean over trainings of `statistic`. Every replicate draws images with replacement inside each
    training and, from three trainings on, first the trainings themselves. What comes of it is a percentile interval:
    with few trainings it is somewhat too narrow, and it inherits the bias of a statistic that depends on how many
    different images there are (a Frechet distance), so that it may then lie beside the estimate.

    Values that are not finite are never left out: where the estimate or a replicate is not finite, low and high are
    nan, which means that there is no interval.
    """

    def replicate() -> float:
        return _mean([statistic(_drawn(sample, rng)) for sample in _trainings(samples, rng)])

    return _interval(
        samples, statistic, lambda: torch.tensor([replicate() for _ in range(resamples)], dtype=torch.float64)
    )


def mean_interval(samples: Sequence[Tensor], rng: Generator, resamples: int = 2000) -> Interval:
    """`interval` of the mean, for (images,) each: in one piece, and so several times as fast. Its draws are others."""
    values = [sample.double() for sample in samples]
    picks = torch.arange(len(values)).expand(resamples, -1)
    if len(values) >= SEEDS_FOR_AN_INTERVAL:
        picks = torch.randint(len(values), picks.shape, generator=rng)

    def replicates() -> Tensor:
        means = torch.empty(picks.shape, dtype=torch.float64)
        for training, sample in enumerate(values):
            rows, columns = (picks == training).nonzero(as_tuple=True)
            for part in torch.arange(len(rows)).split(max(1, _DRAWN // len(sample))):
                drawn = torch.randint(len(sample), (len(part), len(sample)), generator=rng)
                means[rows[part], columns[part]] = sample[drawn].mean(1)
        return means.mean(1)

    return _interval(values, lambda sample: float(sample.mean()), replicates)


def _interval(
    samples: Sequence[Tensor], statistic: Callable[[Tensor], float], replicates: Callable[[], Tensor]
) -> Interval:
    assert samples, "an interval needs a training"
    assert all(len(sample) for sample in samples), "a training without targets has no score"
    estimate = _mean([statistic(sample) for sample in samples])
    if not math.isfinite(estimate):
        return Interval(estimate, math.nan, math.nan)
    found = replicates()
    if not found.isfinite().all():
        return Interval(estimate, math.nan, math.nan)
    low, high = torch.quantile(found, torch.tensor(_LEVELS, dtype=torch.float64)).tolist()
    return Interval(estimate, low, high)


def _trainings(samples: Sequence[Tensor], rng: Generator) -> Sequence[Tensor]:
    if len(samples) < SEEDS_FOR_AN_INTERVAL:
        return samples
    return [samples[pick] for pick in torch.randint(len(samples), (len(samples),), generator=rng).tolist()]


def _drawn(sample: Tensor, rng: Generator) -> Tensor:
    return sample.index_select(0, torch.randint(len(sample), (len(sample),), generator=rng))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
