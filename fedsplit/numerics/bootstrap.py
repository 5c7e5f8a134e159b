"""Percentile bootstrap intervals, over images and over victim trainings (Efron 1979; Davison & Hinkley 1997, 3.8)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

SEEDS_FOR_AN_INTERVAL = 3
"""From this many victim trainings on, the interval covers them too; below it says something about images only."""

_LEVELS = (0.025, 0.975)


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
    assert samples, "an interval needs a training"
    assert all(len(sample) for sample in samples), "a training without targets has no score"
    estimate = _mean([statistic(sample) for sample in samples])
    if not math.isfinite(estimate):
        return Interval(estimate, math.nan, math.nan)
    replicates = torch.tensor(
        [_mean([statistic(_drawn(sample, rng)) for sample in _trainings(samples, rng)]) for _ in range(resamples)],
        dtype=torch.float64,
    )
    if not replicates.isfinite().all():
        return Interval(estimate, math.nan, math.nan)
    low, high = torch.quantile(replicates, torch.tensor(_LEVELS, dtype=torch.float64)).tolist()
    return Interval(estimate, low, high)


def _trainings(samples: Sequence[Tensor], rng: Generator) -> Sequence[Tensor]:
    if len(samples) < SEEDS_FOR_AN_INTERVAL:
        return samples
    return [samples[pick] for pick in torch.randint(len(samples), (len(samples),), generator=rng).tolist()]


def _drawn(sample: Tensor, rng: Generator) -> Tensor:
    return sample.index_select(0, torch.randint(len(sample), (len(sample),), generator=rng))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
