"""A score over seeds, with an interval that says what it covers.

Hierarchical percentile bootstrap: Efron, Tibshirani, "An Introduction to the Bootstrap", 1993; Davison, Hinkley,
"Bootstrap Methods and their Application", 1997, section 3.8.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from torch import Tensor

from fedsplit.numerics.bootstrap import SEEDS_FOR_AN_INTERVAL, interval, mean
from fedsplit.records.outcome import Score
from fedsplit.seeding import Seeds


class Coverage(StrEnum):
    """What was resampled to get an interval; the words are printed."""

    TRAININGS = "images and trainings"
    IMAGES = "images only"
    CLASSES_AND_TRAININGS = "classes and trainings"
    CLASSES = "classes only"
    NOTHING = "no interval"


@dataclass(frozen=True)
class Spread:
    """A mean over seeds and the standard deviation between them; None where there is none to give."""

    mean: float | None
    deviation: float | None


@dataclass(frozen=True)
class Estimate:
    """The mean over seeds with its 95 % interval. sign: 1 where higher scores leak more, -1 where lower ones do."""

    mean: float | None
    low: float | None
    high: float | None
    unit: str
    sign: int
    coverage: Coverage

    @property
    def harm(self) -> float | None:
        """The mean, turned so that more is worse."""
        return None if self.mean is None else self.sign * self.mean


def spread(values: Sequence[float | None]) -> Spread:
    """One value per seed; where one is missing or not finite there is no mean."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if not finite or len(finite) < len(values):
        return Spread(None, None)
    return Spread(statistics.fmean(finite), statistics.stdev(finite) if len(finite) > 1 else None)


def estimate(
    scores: Sequence[Score],
    values: Sequence[Tensor | None],
    stream: tuple[str, ...],
    classes: Sequence[Tensor] | None = None,
) -> Estimate:
    """scores: one per seed. values: (targets,) per seed where the metric has one value per target. classes: (targets,)
    per seed where the targets are classes.

    stream: names the random stream of the bootstrap, so that the same run always prints the same interval.
    """
    first = scores[0]
    sign = 1 if first.more_leaks == "higher" else -1
    average = spread([score.mean for score in scores]).mean
    low, high, coverage = None, None, Coverage.NOTHING
    if average is not None and len(scores) == 1:
        low, high = first.low, first.high
        coverage = Coverage.NOTHING if low is None or high is None else _coverage(1, classes)
    elif average is not None and (samples := _samples(scores, values)):
        found = interval(samples, mean, Seeds(0)("report", *stream), clusters=classes)
        if math.isfinite(found.low) and math.isfinite(found.high):
            low, high = found.low, found.high
            coverage = _coverage(len(scores), classes)
    return Estimate(average, low, high, first.unit, sign, coverage)


def _coverage(trainings: int, classes: Sequence[Tensor] | None) -> Coverage:
    if classes is None or len(classes[0].unique()) == 1:
        return Coverage.TRAININGS if trainings >= SEEDS_FOR_AN_INTERVAL else Coverage.IMAGES
    return Coverage.CLASSES_AND_TRAININGS if trainings >= SEEDS_FOR_AN_INTERVAL else Coverage.CLASSES


def _samples(scores: Sequence[Score], values: Sequence[Tensor | None]) -> list[Tensor]:
    """The values to resample; none where the score is not their mean: the interval would be that of another number."""
    samples: list[Tensor] = []
    for score, column in zip(scores, values, strict=True):
        if (
            column is None
            or score.mean is None
            or not math.isclose(mean(column), score.mean, rel_tol=1e-4, abs_tol=1e-6)
        ):
            return []
        samples.append(column)
    return samples
