"""Sparse codes of images over a convolutional dictionary: the non-negative (or signed) lasso, per sample."""

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from fedsplit.numerics.dictionary import Dictionary


@dataclass(frozen=True)
class Lasso:
    """For every image: the codes a, non-negative or signed, of the least 1/2 |image - D a|^2 + lambda |a|_1.

    images: (n, channels, height, width). bound: above the largest eigenvalue of D'D.
    """

    images: Tensor
    dictionary: Dictionary
    lambda_: float
    nonnegative: bool
    bound: float

    def objective(self, codes: Tensor) -> Tensor:
        """(n, features, height', width') -> (n,)."""
        return self.energy(self.images - self.dictionary.synthesise(codes), codes)

    def energy(self, residual: Tensor, codes: Tensor) -> Tensor:
        """The objective where image - D codes is known: (n, channels, height, width) and codes -> (n,)."""
        return 0.5 * squares(residual) + self.lambda_ * self.norm(codes)

    def norm(self, codes: Tensor) -> Tensor:
        """The sum of absolute values, (n,)."""
        return (codes if self.nonnegative else codes.abs()).sum(dim=(1, 2, 3))

    def shrink(self, codes: Tensor, by: Tensor | float) -> Tensor:
        """The proximal step: (soft) threshold. by: one for all, or (n, 1, 1, 1)."""
        return F.relu(codes - by) if self.nonnegative else codes - _within(codes, by)

    def shrink_(self, codes: Tensor, by: Tensor | float) -> Tensor:
        """`shrink`, in place."""
        return codes.sub_(by).relu_() if self.nonnegative else codes.sub_(_within(codes, by))

    def dual(self, residual: Tensor, peak: Tensor) -> Tensor:
        """A lower bound of the objective from any residual and the largest entry of D' residual, (n,) -> (n,).

        The residual, scaled until no atom correlates with it by more than lambda, is feasible for the dual problem
        max 1/2 |image|^2 - 1/2 |image - theta|^2.
        """
        tiny = torch.finfo(residual.dtype).tiny
        likeness, power = dot(self.images, residual), squares(residual)
        scale = torch.minimum(likeness / power.clamp(min=tiny), self.lambda_ / peak.clamp(min=tiny)).clamp(min=0)
        return scale * likeness - 0.5 * scale.square() * power

    def gap(self, codes: Tensor) -> Tensor:
        """The relative duality gap of any codes: (n,)."""
        residual = self.images - self.dictionary.synthesise(codes)
        peak = self.peak(self.dictionary.correlate(residual))
        energy = self.energy(residual, codes)
        return relative_gap(energy, self.dual(residual, peak))

    def peak(self, correlation: Tensor) -> Tensor:
        """What `dual` needs of D' residual: (n, features, height', width') -> (n,)."""
        return (correlation if self.nonnegative else correlation.abs()).amax(dim=(1, 2, 3))

    def no_codes(self) -> Tensor:
        """Zeros, (n, features, height', width')."""
        return self.images.new_zeros((len(self.images), *self.dictionary.codes))

    def at(self, rows: Tensor | slice) -> "Lasso":
        """Some of the samples."""
        return replace(self, images=self.images[rows])


@dataclass(frozen=True)
class Solution:
    """codes: (n, features, height', width'). gap: (n,), the relative duality gap, an upper bound of (objective -
    least objective) / objective. iterations: (n,), products with D and D' that a sample took."""

    codes: Tensor
    gap: Tensor
    iterations: Tensor


class Solver(Protocol):
    """What a sparse-coding layer needs of a solver."""

    def solve(self, lasso: Lasso, start: Tensor | None = None) -> Solution:
        """Codes without a graph; `start` is a first guess."""
        ...

    def unrolled(self, lasso: Lasso) -> Tensor:
        """Codes as a differentiable function of images and atoms, through every iteration."""
        ...


def squares(images: Tensor) -> Tensor:
    """(n, channels, height, width) -> (n,), the sum of squares."""
    return torch.linalg.vector_norm(images, dim=(1, 2, 3)).square()


def dot(one: Tensor, other: Tensor) -> Tensor:
    """Twice (n, channels, height, width) -> (n,), the sums of products."""
    return (one * other).sum(dim=(1, 2, 3))


def relative_gap(energy: Tensor, lower: Tensor) -> Tensor:
    """(energy - lower bound) / energy, (n,) each; an image of zeros is coded without error: no gap."""
    return torch.where(energy == 0, 0, (energy - lower).clamp(min=0) / energy.clamp(min=torch.finfo(energy.dtype).tiny))


def _within(codes: Tensor, limit: Tensor | float) -> Tensor:
    most = torch.as_tensor(limit, dtype=codes.dtype, device=codes.device)
    return codes.clamp(-most, most)
