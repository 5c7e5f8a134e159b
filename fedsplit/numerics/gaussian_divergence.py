"""How far Gaussian codes are from a standard one."""

from torch import Tensor

_NEVER_ZERO = 1e-7


def divergence_from_standard(mean: Tensor, deviation: Tensor) -> Tensor:
    """(n, k) and (n, k) -> (n,): the Kullback-Leibler divergence of N(mean, deviation^2) from N(0, I), in nats.

    Summed over dimensions, each 1/2 (mean^2 + deviation^2 - 1) - log deviation; a deviation of zero stays finite.
    """
    own = mean.square() + deviation.square() - 1 - 2 * (deviation + _NEVER_ZERO).log()
    return own.sum(dim=1) / 2
