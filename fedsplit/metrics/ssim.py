"""Structural similarity (Wang, Bovik, Sheikh & Simoncelli 2004), as scikit-image defines it."""

from typing import ClassVar, Literal

from torch import Tensor

from fedsplit.layers.evaluator import Evaluator
from fedsplit.metrics.base import Measurement, Metric
from fedsplit.numerics.ssim import structural_similarity
from fedsplit.records.truth import Truth


class Ssim(Metric):
    """The mean over windows and channels of the product of luminance, contrast and structure terms, at most 1.

    The numbers are those of `skimage.metrics.structural_similarity` with its defaults and a data range of 1: a uniform
    window of 7 x 7 pixels wholly inside the image, sample covariances, channels apart. Smaller images get the largest
    odd window that fits. On blank backgrounds the structure term is ruled by very faint noise.
    """

    unit: ClassVar[str] = ""
    more_leaks: ClassVar[Literal["higher", "lower"]] = "higher"

    def measure(self, truth: Truth, guess: Tensor, evaluator: Evaluator | None) -> Measurement:
        """values: (targets,), in [-1, 1]. Raises EngineError for images of less than 3 x 3 pixels."""
        del evaluator
        return Measurement(structural_similarity(truth.images, guess).cpu())
