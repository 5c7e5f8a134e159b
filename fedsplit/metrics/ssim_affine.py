"""Structural similarity after the best affine map of each guess's intensities."""

from typing import ClassVar, Literal

from torch import Tensor

from fedsplit.layers.evaluator import Evaluator
from fedsplit.metrics.base import Measurement, Metric
from fedsplit.numerics.affine_fit import affine_fit
from fedsplit.numerics.ssim import structural_similarity
from fedsplit.records.truth import Truth


class SsimAffine(Metric):
    """`ssim` of a * guess + b, with one a and one b per image, fitted to the private image by least squares.

    The map is that of `psnr_affine`: a may be negative, the mapped guess is not clamped, the guess itself was. It is
    best by squared error, not by structural similarity, and makes a poor guess pale: the score of such a guess may be
    below its `ssim`. It is the same for a guess and any affine map of it. A constant guess becomes the private image's
    mean, which on blank backgrounds is not far from right: look at how far a score is from the mean image's.
    """

    unit: ClassVar[str] = ""
    more_leaks: ClassVar[Literal["higher", "lower"]] = "higher"

    def measure(self, truth: Truth, guess: Tensor, evaluator: Evaluator | None) -> Measurement:
        """values: (targets,), in [-1, 1]. Raises EngineError for images of less than 3 x 3 pixels."""
        del evaluator
        return Measurement(structural_similarity(truth.images, affine_fit(guess, truth.images)).cpu())
