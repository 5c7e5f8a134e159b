"""Mean squared error of the pixels."""

from typing import ClassVar, Literal

from torch import Tensor

from fedsplit.layers.evaluator import Evaluator
from fedsplit.metrics.base import Measurement, Metric
from fedsplit.records.truth import Truth


class Mse(Metric):
    """The mean squared difference over pixels and channels, per image; 0 is a perfect guess, 1 the worst there is."""

    unit: ClassVar[str] = ""
    more_leaks: ClassVar[Literal["higher", "lower"]] = "lower"

    def measure(self, truth: Truth, guess: Tensor, evaluator: Evaluator | None) -> Measurement:
        """values: (targets,), squared intensities of a scale from 0 to 1."""
        del evaluator
        return Measurement((guess.double() - truth.images.double()).square().flatten(1).mean(1).cpu())
