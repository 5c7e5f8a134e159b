"""Kernel distance between the features of private images and of guesses (Binkowski, Sutherland, Arbel and Gretton,
"Demystifying MMD GANs", ICLR 2018)."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from fedsplit.layers.evaluator import Evaluator
from fedsplit.metrics.base import Measurement, Metric
from fedsplit.numerics.kernel_distance import kernel_distance
from fedsplit.records.leak import Level
from fedsplit.records.truth import Truth


class Kid(Metric):
    """Compares two sets, never an image with its own guess, as `fid` does, but without bias from how many there are.

    In features of the independent evaluator. Resampled rows repeat images, so the interval sits higher than the score.
    """

    levels: ClassVar[frozenset[Level]] = frozenset({"instance", "class"})
    unit: ClassVar[str] = ""
    more_leaks: ClassVar[Literal["higher", "lower"]] = "lower"
    per_target: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Says whose features are compared."""
        return f"{self.kind}_evaluator"

    @property
    def evaluated(self) -> bool:
        """Always."""
        return True

    def measure(self, truth: Truth, guess: Tensor, evaluator: Evaluator | None) -> Measurement:
        """values: (targets, 2 widths), features of the truth and then of the guess."""
        assert evaluator is not None, "asked for by `evaluated`"
        features = [evaluator.features(images) for images in (truth.images, guess)]
        return Measurement(torch.cat(features, dim=1), _distance_of_halves, resamples=200)


def _distance_of_halves(rows: Tensor) -> float:
    truth, guess = rows.chunk(2, dim=1)
    return kernel_distance(truth, guess)
