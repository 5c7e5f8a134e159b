"""Kernel measures of how far two sets of points depend, as in the code that Peng et al. published (BiDO, KDD 2022).

HSIC: Gretton, Bousquet, Smola, Scholkopf, ALT 2005; normalised: Fukumizu, Gretton, Sun, Scholkopf, NIPS 2007.
COCO: Gretton, Smola, Bousquet, Herbrich, Belitski, Augath, Murayama, Pauls, Scholkopf, Logothetis, AISTATS 2005.
"""

import torch
from torch import Tensor

_RIDGE = 1e-5
"""Of the normalised HSIC, per sample: directions that vary less count for little."""


def gaussian_kernel(points: Tensor, width: float) -> Tensor:
    """(n, ...) -> (n, n), centred: exp(-d / (2 width^2)), where d is the mean of the squared differences of all values.

    So `width` is in units of the values, however many of them a point has.
    """
    flat = points.flatten(1)
    moved = flat - flat.mean(dim=0)
    products = moved @ moved.T
    squares = products.diagonal()
    # By products, not pair by pair, which takes twenty times as long; rounding may leave less than nothing.
    distances = (squares[:, None] + squares - 2 * products).clamp(min=0) / flat.shape[1]
    # Less one, which centring takes away in any case: beside it small distances would drown in rounding.
    return _centred(torch.expm1(-distances / (2 * width**2)))


def class_kernel(labels: Tensor, dtype: torch.dtype) -> Tensor:
    """(n,) -> (n, n), centred: the linear kernel of one-hot labels, whatever the number of classes.

    Any other kernel of one-hot labels, centred, is a multiple of it: it has only two values as well.
    """
    return _centred((labels[:, None] == labels).to(dtype))


def hsic(one: Tensor, other: Tensor) -> Tensor:
    """Two centred kernels, (n, n) -> a scalar from 0 to n - 1: how many directions of the one are in the other.

    For scalars and linear kernels it is the squared correlation. The published code centres kernels on one side only,
    and gets the same number: of a product of the two, a trace keeps nothing else.
    """
    return (_normalised(one) * _normalised(other)).sum()


def coco(one: Tensor, other: Tensor) -> Tensor:
    """Two centred kernels, (n, n) -> a scalar from 0 on, which grows with the root of either kernel.

    The root of the product's Frobenius norm per sample; the constrained covariance proper has its spectral norm.
    """
    product = one @ other
    # Not below a tiny number, for the root has no slope at zero.
    square = (product * product).sum().clamp(min=torch.finfo(product.dtype).tiny)
    return square**0.25 / len(one)


def _centred(kernel: Tensor) -> Tensor:
    return kernel - kernel.mean(dim=0) - kernel.mean(dim=1, keepdim=True) + kernel.mean()


def _normalised(kernel: Tensor) -> Tensor:
    """K (K + ridge)^-1: every direction weighs nearly one, or nearly nothing."""
    ridge = _RIDGE * len(kernel) * torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    return torch.linalg.solve(kernel + ridge, kernel)
