"""Ridge regression in the space of a Gaussian kernel; width and strength by exact leave-one-out error.

Saunders, Gammerman and Vovk, "Ridge regression learning algorithm in dual variables", ICML 1998.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_WIDTHS = (0.15, 0.3, 0.6, 1.2, 4.0)
_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class KernelRidge:
    """prediction = exp(-|features - known|^2 / (2 width^2)) @ weight + mean."""

    known: Tensor
    width: float
    strength: float
    weight: Tensor
    mean: Tensor
    left_out: Tensor
    """(n, outputs), each target less what the fit to all others predicts."""

    def predict(self, features: Tensor) -> Tensor:
        """(n, features) -> (n, outputs)."""
        return _kernel(torch.cdist(features, self.known), self.width) @ self.weight + self.mean


def fit_kernel_ridge(features: Tensor, targets: Tensor) -> KernelRidge:
    """features: (n, m), on one scale. targets: (n, outputs). Widths are tried relative to the median distance."""
    distances = torch.cdist(features, features)
    usual = float(distances.median()) or 1.0
    mean = targets.mean(dim=0)
    fits: list[KernelRidge] = []
    for width in _WIDTHS:
        values, axes = torch.linalg.eigh(_kernel(distances, width * usual))
        loads = axes.T @ (targets - mean)
        for strength in _STRENGTHS:
            inverse = 1 / (values.clamp(min=0) + strength)
            weight = axes @ (inverse[:, None] * loads)
            left_out = weight / (axes.square() @ inverse)[:, None]
            fits.append(KernelRidge(features, width * usual, strength, weight, mean, left_out))
    return min(fits, key=lambda fit: float(fit.left_out.square().mean()))


def _kernel(distances: Tensor, width: float) -> Tensor:
    return (-distances.square() / (2 * width**2)).exp()
