"""The squared kernel distance between two distributions, estimated from samples without bias (Gretton, Borgwardt,
Rasch, Schoelkopf and Smola, "A kernel two-sample test", 2012)."""

from torch import Tensor


def kernel_distance(first: Tensor, second: Tensor) -> float:
    """(n, width), (m, width) -> the maximum mean discrepancy, squared, under the kernel (x'y / width + 1)^3 (Binkowski,
    Sutherland, Arbel and Gretton, ICLR 2018), in float64. Zero on average where both are of one distribution, so below
    zero as often as above."""
    first, second = first.double(), second.double()
    within = sum(_off_diagonal_mean(_kernel(one, one)) for one in (first, second))
    return float(within - 2 * _kernel(first, second).mean())


def _kernel(first: Tensor, second: Tensor) -> Tensor:
    return (first @ second.T / first.shape[1] + 1) ** 3


def _off_diagonal_mean(kernel: Tensor) -> Tensor:
    count = len(kernel)
    return (kernel.sum() - kernel.trace()) / max(count * (count - 1), 1)
