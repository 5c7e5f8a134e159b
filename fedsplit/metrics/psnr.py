"""Peak signal-to-noise ratio, as scikit-image defines it."""

from typing import ClassVar, Literal

from torch import Tensor

from fedsplit.layers.evaluator import Evaluator
from fedsplit.metrics.base import Measurement, Metric
from fedsplit.records.truth import Truth

_LEAST_ERROR = 1e-10
"""The mean squared error of 100 dB; 8-bit grey levels alone make a larger one, about 1e-6."""


class Psnr(Metric):
    """10 log10(1 / mean squared error) per image, with peak 1 whatever the image's own range.

    The score is the mean of the images' values, not the value of the mean error. A perfect guess would be infinite,
    and one such image would swallow the mean, so values end at 100 dB.
    """

    unit: ClassVar[str] = "dB"
    more_leaks: ClassVar[Literal["higher", "lower"]] = "higher"

    def measure(self, truth: Truth, guess: Tensor, evaluator: Evaluator | None) -> Measurement:
        """values: (targets,), at most 100 dB."""
        del evaluator
        error = (guess.double() - truth.images.double()).square().flatten(1).mean(1)
        return Measurement((-10 * error.clamp(min=_LEAST_ERROR).log10()).cpu())
