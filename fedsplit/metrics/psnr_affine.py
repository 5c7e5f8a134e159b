"""Peak signal-to-noise ratio after the best affine map of each guess's intensities."""

from typing import ClassVar, Literal

from torch import Tensor

from fedsplit.layers.evaluator import Evaluator
from fedsplit.metrics.base import Measurement, Metric
from fedsplit.numerics.affine_fit import affine_fit
from fedsplit.numerics.psnr import peak_signal_to_noise_ratio
from fedsplit.records.truth import Truth


class PsnrAffine(Metric):
    """`psnr` of a * guess + b, with one a and one b per image, fitted to the private image by least squares.

    A defense that standardises images erases each one's mean and contrast; this asks how much of all else is rebuilt.
    It is 10 log10(1 / (variance of the private image * (1 - r^2))), with r its correlation with the guess: never below
    `psnr`, and the same for a guess and any affine map of it. A negative a is allowed, since a negative shows what its
    picture shows; to a guess by chance it adds next to nothing.

    The mapped guess is not clamped, as its law would not hold then. The guess itself was, so what an attack leaves
    outside [0, 1] is lost, and the score with it: an attack that knows no scale has to choose one that fits.
    A constant guess gets the private image's mean (a = 0), the mean image its own best map: look at how far a score is
    from these, not from 0 dB. A constant private image has no more than a mean: every guess scores 100 dB there.
    """

    unit: ClassVar[str] = "dB"
    more_leaks: ClassVar[Literal["higher", "lower"]] = "higher"

    def measure(self, truth: Truth, guess: Tensor, evaluator: Evaluator | None) -> Measurement:
        """values: (targets,), at most 100 dB."""
        del evaluator
        return Measurement(peak_signal_to_noise_ratio(truth.images, affine_fit(guess, truth.images)).cpu())
