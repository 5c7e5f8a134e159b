"""Peak signal-to-noise ratio, as scikit-image defines it, for a batch at once."""

from torch import Tensor

_LEAST_ERROR = 1e-10
"""The mean squared error of 100 dB; 8-bit grey levels alone make a larger one, about 1e-6."""


def peak_signal_to_noise_ratio(first: Tensor, second: Tensor) -> Tensor:
    """(n, ...), (n, ...) -> (n,), in dB, float64: 10 log10(1 / mean squared error), with peak 1 and at most 100."""
    error = (first.double() - second.double()).square().flatten(1).mean(1)
    return -10 * error.clamp(min=_LEAST_ERROR).log10()
