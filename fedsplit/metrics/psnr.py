"""Peak signal-to-noise ratio, as scikit-image defines it."""

from typing import ClassVar, Literal

from torch import Tensor

from fedsplit.layers.evaluator import Evaluator
from fedsplit.metrics.base import Measurement, Metric
from fedsplit.numerics.psnr import peak_signal_to_noise_ratio
from fedsplit.records.truth import Truth


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
        return Measurement(peak_signal_to_noise_ratio(truth.images, guess).cpu())
