"""Proximal gradient descent with momentum (Beck and Teboulle, SIAM J. Imaging Sciences 2009) in its greedy form: full
momentum, a step beyond one over the Lipschitz bound, and a restart whenever the momentum points uphill (Liang, Luo and
Schoenlieb, SIAM J. Scientific Computing 2022)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedsplit.numerics.descent import descended
from fedsplit.numerics.lasso import Lasso, Solution, dot, relative_gap
from fedsplit.numerics.products import Products

_GREEDY_STEP = 1.3
_CHECK_EVERY = 5
_RISE = 1e-4
_SHORTER = 0.96


@dataclass(frozen=True)
class Fista:
    """Proximal gradient descent with momentum and restarts, until each sample's relative duality gap is `tolerance`.

    A sample that is done keeps the codes it has then, and as soon as enough are, they cost no more. But where the
    objective of one rises (a step is longer than is safe), the step of all shrinks.
    """

    tolerance: float = 1e-3
    iterations: int = 500
    """At most this many."""

    def solve(self, lasso: Lasso, start: Tensor | None = None) -> Solution:
        """Stops a sample where its gap is reached; the reported gap says where it was not."""
        return descended(lasso, start, _Greedy, self.tolerance, self.iterations, _CHECK_EVERY)

    def unrolled(self, lasso: Lasso) -> Tensor:
        """All iterations for every sample, from zero; restarts happen where they happen, and are not differentiated."""
        dictionary, step = lasso.dictionary, 1 / lasso.bound
        codes = last = lasso.no_codes()
        synthesis = last_synthesis = dictionary.synthesise(codes)
        momentum = torch.ones((len(codes), 1, 1, 1), dtype=codes.dtype, device=codes.device)
        for _ in range(self.iterations):
            ahead = codes + momentum * (codes - last)
            synthesis_ahead = synthesis + momentum * (synthesis - last_synthesis)
            pull = dictionary.correlate(lasso.images - synthesis_ahead)
            last, last_synthesis = codes, synthesis
            codes = lasso.shrink(ahead + step * pull, step * lasso.lambda_)
            synthesis = dictionary.synthesise(codes)
            uphill = dot(synthesis_ahead - synthesis, synthesis - last_synthesis).detach() > 0
            momentum = (~uphill).to(codes)[:, None, None, None]
        return codes


class _Greedy:
    """The residual follows the codes by linearity, so that an iteration is one product with D and one with D'."""

    def __init__(self, lasso: Lasso, start: Tensor, fast: Products) -> None:
        self.lasso = lasso
        self.products = fast
        self.codes, self.last = start, start.clone()
        self.residual = self.last_residual = fast.residual(lasso.images, start)
        self.step_size = _GREEDY_STEP / lasso.bound
        self.weight = torch.full((len(start), 1, 1, 1), 2.0, dtype=start.dtype, device=start.device)
        self.correlation = torch.empty_like(start)
        self.lower = torch.zeros_like(self.weight[:, 0, 0, 0])
        self.energy = lasso.energy(self.residual, start)

    def step(self) -> None:
        """In as few passes over the codes as there are."""
        lasso, size, (ahead, residual) = self.lasso, self.step_size, self._ahead()
        if lasso.nonnegative:
            codes = self.products.descend(ahead, residual, size, lasso.lambda_).relu_()
        else:
            codes = lasso.shrink_(self.products.descend(ahead, residual, size, 0.0), size * lasso.lambda_)
        self._arrive(codes, residual)

    def step_and_gap(self) -> Tensor:
        lasso, size, (ahead, residual) = self.lasso, self.step_size, self._ahead()
        correlation = self.products.correlate(residual, out=self.correlation)
        self._arrive(lasso.shrink_(ahead.add_(correlation, alpha=size), size * lasso.lambda_), residual)
        self.lower = torch.maximum(self.lower, lasso.dual(residual, lasso.peak(correlation)))
        energy = lasso.energy(self.residual, self.codes)
        # Beyond 1 / bound descent is not certain: where the objective rises, the step gives way.
        if bool((energy > (1 + _RISE) * self.energy).any()):
            self.step_size = max(1 / lasso.bound, _SHORTER * size)
        self.energy = energy
        return relative_gap(energy, self.lower)

    def keep(self, rows: Tensor) -> None:
        self.lasso = self.lasso.at(rows)
        for name in ("codes", "last", "residual", "last_residual", "weight", "lower", "energy"):
            setattr(self, name, getattr(self, name)[rows])
        self.correlation = self.correlation[: len(self.codes)]

    def _ahead(self) -> tuple[Tensor, Tensor]:
        """The codes with their momentum, in the place of the last ones, and what they leave of the images."""
        return self.last.lerp_(self.codes, self.weight), self.last_residual.lerp(self.residual, self.weight)

    def _arrive(self, codes: Tensor, residual_ahead: Tensor) -> None:
        residual = self.products.residual(self.lasso.images, codes)
        # The gradient test of a restart, as it shows in the image: free, since all three are at hand.
        uphill = dot(residual - residual_ahead, self.residual - residual) > 0
        self.weight = (2 - uphill.to(codes))[:, None, None, None]
        self.last, self.last_residual, self.codes, self.residual = self.codes, self.residual, codes, residual
