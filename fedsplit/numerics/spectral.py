"""Proximal gradient descent whose steps follow the curvature along the last one (Wright, Nowak and Figueiredo, "Sparse
reconstruction by separable approximation", IEEE Trans. Signal Processing 2009; steps of Barzilai and Borwein, IMA J.
Numerical Analysis 1988), here a little shorter, and monotone."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedsplit.numerics.descent import descended
from fedsplit.numerics.lasso import Lasso, Solution, dot, relative_gap, squares
from fedsplit.numerics.products import Products

_SHORTER = 0.75
"""Of the step that the last curvature asks for. Between .7 and .8 Medical MNIST and its codes took the fewest."""
_LONGEST = 100.0
"""Of one over the Lipschitz bound."""
_ROUNDING = 32
_CHECK_EVERY = 2


@dataclass(frozen=True)
class Spectral:
    """Each sample steps as far as the dictionary's curvature along its own last step allows, with no momentum.

    Codes move where few atoms are active, and there the objective bends far less than the bound of the whole
    dictionary says. To coarse gaps that takes fewer iterations than `Fista` does, and to fine ones, too, wherever
    either gets there in hundreds. The objective of no sample rises: where a step would lead uphill, it ends at the
    least point on its way. What a sample gets is not up to its batch at all.
    """

    tolerance: float = 1e-3
    """Of each sample's relative duality gap."""
    iterations: int = 500
    """At most this many."""

    def solve(self, lasso: Lasso, start: Tensor | None = None) -> Solution:
        """Stops a sample where its gap is reached; the reported gap says where it was not."""
        return descended(lasso, start, _Steps, self.tolerance, self.iterations, _CHECK_EVERY)

    def unrolled(self, lasso: Lasso) -> Tensor:
        """All iterations for every sample, from zero; steps are as long as they are, which is not differentiated."""
        dictionary, codes, residual = lasso.dictionary, lasso.no_codes(), lasso.images
        sizes = _first_sizes(lasso)
        for _ in range(self.iterations):
            ahead = lasso.shrink(codes + sizes * dictionary.correlate(residual), sizes * lasso.lambda_)
            left = lasso.images - dictionary.synthesise(ahead)
            with torch.no_grad():
                rises = _rises(lasso.energy(left, ahead), lasso.energy(residual, codes))
                share = torch.where(rises, _least_share(lasso, codes, residual, ahead, left), 1)
            move, change = _each(share) * (ahead - codes), _each(share) * (left - residual)
            codes, residual = codes + move, residual + change
            with torch.no_grad():
                sizes = _sizes(lasso, squares(move), squares(change))
        return codes


class _Steps:
    """The residual follows the codes by linearity, so that an iteration is one product with D and one with D'."""

    def __init__(self, lasso: Lasso, start: Tensor, fast: Products) -> None:
        self.lasso = lasso
        self.products = fast
        self.codes, self.room = start, torch.empty_like(start)
        self.residual = fast.residual(lasso.images, start)
        self.pull = torch.empty_like(start)
        self.price = lasso.lambda_ if lasso.nonnegative else 0.0
        self.energy = lasso.energy(self.residual, start)
        self.lower = torch.zeros_like(self.energy)
        self.sizes = _first_sizes(lasso)

    def step(self) -> None:
        self._move(self._drawn())

    def step_and_gap(self) -> Tensor:
        lasso, pull = self.lasso, self._drawn()
        self.lower = torch.maximum(self.lower, lasso.dual(self.residual, lasso.peak(pull) + self.price))
        self._move(pull)
        return relative_gap(self.energy, self.lower)

    def keep(self, rows: Tensor) -> None:
        self.lasso = self.lasso.at(rows)
        for name in ("codes", "residual", "energy", "lower", "sizes"):
            setattr(self, name, getattr(self, name)[rows])
        self.room, self.pull = self.room[: len(self.codes)], self.pull[: len(self.codes)]

    def _drawn(self) -> Tensor:
        """Where the objective falls steepest; where codes are 0 or more, what they cost is taken off here already."""
        return self.products.correlate(self.residual, self.price, out=self.pull)

    def _move(self, pull: Tensor) -> None:
        lasso, codes, residual = self.lasso, self.codes, self.residual
        ahead = torch.addcmul(codes, pull, self.sizes, out=self.room)
        ahead = ahead.relu_() if lasso.nonnegative else lasso.shrink_(ahead, self.sizes * lasso.lambda_)
        left = self.products.residual(lasso.images, ahead)
        energy = lasso.energy(left, ahead)
        rises = _rises(energy, self.energy)
        if bool(rises.any()):
            share = _each(torch.where(rises, _least_share(lasso, codes, residual, ahead, left), 1))
            torch.lerp(codes, ahead, share, out=ahead)
            left = torch.lerp(residual, left, share)
            energy = lasso.energy(left, ahead)
        move = codes.sub_(ahead)  # Backwards, in memory that the next codes will take.
        self.sizes = _sizes(lasso, squares(move), squares(left - residual))
        self.codes, self.room, self.residual, self.energy = ahead, move, left, energy


def _first_sizes(lasso: Lasso) -> Tensor:
    return lasso.images.new_full((len(lasso.images), 1, 1, 1), 1 / lasso.bound)


def _sizes(lasso: Lasso, move: Tensor, change: Tensor) -> Tensor:
    """(n, 1, 1, 1), for the next step: from the squares of the last one, in codes and in the image, (n,) each."""
    inverse_curvature = move / change.clamp(min=torch.finfo(change.dtype).tiny)
    return _each((_SHORTER * inverse_curvature).clamp(1 / lasso.bound, _LONGEST / lasso.bound))


def _rises(energy: Tensor, before: Tensor) -> Tensor:
    return energy > (1 + _ROUNDING * torch.finfo(energy.dtype).eps) * before


def _least_share(lasso: Lasso, codes: Tensor, residual: Tensor, ahead: Tensor, left: Tensor) -> Tensor:
    """How far on the way from the codes ahead the objective is least, (n,) of 0 to 1: a parabola, if signs stay."""
    slope = dot(residual, residual - left) - lasso.lambda_ * (lasso.norm(ahead) - lasso.norm(codes))
    return (slope / squares(left - residual).clamp(min=torch.finfo(slope.dtype).tiny)).clamp(0, 1)


def _each(values: Tensor) -> Tensor:
    return values[:, None, None, None]
