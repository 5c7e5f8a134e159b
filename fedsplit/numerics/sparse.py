"""Sparse codes of images over a convolutional dictionary: solvers of the non-negative (or signed) lasso, per sample.

`Fista` is proximal gradient descent with momentum (Beck and Teboulle, SIAM J. Imaging Sciences 2009) in its greedy
form: full momentum, a step beyond one over the Lipschitz bound, and a restart whenever the momentum points uphill
(Liang, Luo and Schoenlieb, SIAM J. Scientific Computing 2022). `Lca` are the dynamics of the locally competitive
algorithm (Rozell, Johnson, Baraniuk and Olshausen, Neural Computation 2008).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from fedsplit.numerics.dictionary import Dictionary
from fedsplit.numerics.products import Products, in_parts, products

_GREEDY_STEP = 1.3
_CHECK_EVERY = 5
_FINISHED_SHARE = 0.25
_RISE = 1e-4
_SHORTER = 0.96


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

    def shrink(self, codes: Tensor, by: float) -> Tensor:
        """The proximal step: (soft) threshold."""
        return F.relu(codes - by) if self.nonnegative else F.softshrink(codes, by)

    def shrink_(self, codes: Tensor, by: float) -> Tensor:
        """`shrink`, in place."""
        return codes.sub_(by).relu_() if self.nonnegative else codes.sub_(codes.clamp(-by, by))

    def dual(self, residual: Tensor, peak: Tensor) -> Tensor:
        """A lower bound of the objective from any residual and the largest entry of D' residual, (n,) -> (n,).

        The residual, scaled until no atom correlates with it by more than lambda, is feasible for the dual problem
        max 1/2 |image|^2 - 1/2 |image - theta|^2.
        """
        tiny = torch.finfo(residual.dtype).tiny
        best = _dot(self.images, residual) / squares(residual).clamp(min=tiny)
        scale = torch.minimum(best, self.lambda_ / peak.clamp(min=tiny)).clamp(min=0)
        miss = self.images - scale[:, None, None, None] * residual
        return 0.5 * squares(self.images) - 0.5 * squares(miss)

    def gap(self, codes: Tensor) -> Tensor:
        """The relative duality gap of any codes: (n,)."""
        residual = self.images - self.dictionary.synthesise(codes)
        peak = self.peak(self.dictionary.correlate(residual))
        energy = self.energy(residual, codes)
        return _relative(energy, self.dual(residual, peak))

    def peak(self, correlation: Tensor) -> Tensor:
        """What `dual` needs of D' residual: (n, features, height', width') -> (n,)."""
        return (correlation if self.nonnegative else correlation.abs()).amax(dim=(1, 2, 3))

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
        with torch.no_grad():
            fast = products(lasso.dictionary)
            parts = [
                _Descent(lasso.at(rows), None if start is None else start[rows], fast).run(
                    self.tolerance, self.iterations
                )
                for rows in in_parts(lasso.dictionary, len(lasso.images))
            ]
            codes, gap, spent = (torch.cat(column) for column in zip(*map(_columns, parts), strict=True))
            return Solution(codes, gap, spent)

    def unrolled(self, lasso: Lasso) -> Tensor:
        """All iterations for every sample, from zero; restarts happen where they happen, and are not differentiated."""
        dictionary, step = lasso.dictionary, 1 / lasso.bound
        codes = last = _zeros(lasso)
        synthesis = last_synthesis = dictionary.synthesise(codes)
        momentum = torch.ones((len(codes), 1, 1, 1), dtype=codes.dtype, device=codes.device)
        for _ in range(self.iterations):
            ahead = codes + momentum * (codes - last)
            synthesis_ahead = synthesis + momentum * (synthesis - last_synthesis)
            pull = dictionary.correlate(lasso.images - synthesis_ahead)
            last, last_synthesis = codes, synthesis
            codes = lasso.shrink(ahead + step * pull, step * lasso.lambda_)
            synthesis = dictionary.synthesise(codes)
            uphill = _dot(synthesis_ahead - synthesis, synthesis - last_synthesis).detach() > 0
            momentum = (~uphill).to(codes)[:, None, None, None]
        return codes


@dataclass(frozen=True)
class Lca:
    """Leaky units that inhibit each other: u += (D'x - u - inhibition) / tau, codes = threshold(u), threshold first.

    As published, the codes are those before the last update of u, and nothing is tested for convergence.
    """

    tau: float = 100.0
    steps: int = 500
    gram: bool = False
    """Whether units inhibit each other through the atoms' correlations, as published. Where images are padded, those
    ignore the border, and the codes solve another problem; through the residual they solve this one."""

    def solve(self, lasso: Lasso, start: Tensor | None = None) -> Solution:
        """Runs all steps for every sample."""
        with torch.no_grad():
            codes = self._codes(lasso, start)
            spent = torch.full((len(codes),), self.steps, dtype=torch.long, device=codes.device)
            return Solution(codes, lasso.gap(codes), spent)

    def unrolled(self, lasso: Lasso) -> Tensor:
        """The same, step by step in the graph."""
        return self._codes(lasso, None)

    def _codes(self, lasso: Lasso, start: Tensor | None) -> Tensor:
        drive = lasso.dictionary.correlate(lasso.images)
        inhibition = _lateral(lasso.dictionary) if self.gram else lambda codes: _through_images(lasso, codes)
        # A unit above threshold holds its code and the threshold on top.
        potential = torch.zeros_like(drive) if start is None else start + lasso.lambda_ * start.sign()
        codes = lasso.shrink(potential, lasso.lambda_)
        for _ in range(self.steps - 1):
            potential = potential + (drive - potential - inhibition(codes)) / self.tau
            codes = lasso.shrink(potential, lasso.lambda_)
        return codes


SOLVERS: dict[str, Solver] = {"fista": Fista(), "lca": Lca(), "lca_gram": Lca(gram=True)}
"""Solvers with their default settings, by name."""


class _Descent:
    """The state of greedy proximal descent over a shrinking batch.

    The residual follows the codes by linearity, so that an iteration is one product with D and one with D'.
    """

    def __init__(self, lasso: Lasso, start: Tensor | None, fast: Products) -> None:
        self.lasso = lasso = replace(lasso, images=fast.arrange(lasso.images))
        self.products = fast
        start = fast.arrange(_zeros(lasso) if start is None else start)
        self.codes, self.last = start.clone(), start.clone()
        self.residual = self.last_residual = fast.residual(lasso.images, start)
        self.step = _GREEDY_STEP / lasso.bound
        self.weight = torch.full((len(start), 1, 1, 1), 2.0, dtype=start.dtype, device=start.device)
        self.correlation = torch.empty_like(start)
        self.lower = torch.zeros_like(self.weight[:, 0, 0, 0])
        self.energy = lasso.energy(self.residual, start)

    def run(self, tolerance: float, iterations: int) -> Solution:
        """Until every sample's gap is within the tolerance, or for so many iterations."""
        codes = torch.empty_like(self.codes)
        gap = torch.full_like(self.lower, torch.inf)
        spent = torch.zeros(len(codes), dtype=torch.long, device=codes.device)
        left = torch.arange(len(codes), device=codes.device)
        settled = torch.zeros_like(left, dtype=torch.bool)
        for number in range(1, iterations + 1):
            last = number == iterations
            if not last and number % _CHECK_EVERY:
                self._advance()
                continue
            gaps = self._checked()
            # Kept as they are now, though they may go on with the others: what a sample gets is not up to its batch.
            done = ~settled & ((gaps <= tolerance) | last)
            own = left[done]
            codes[own], gap[own], spent[own] = self.codes[done], gaps[done], number
            settled |= done
            if bool(settled.all()):
                break
            if float(settled.float().mean()) >= _FINISHED_SHARE:
                self._keep(~settled)
                left = left[~settled]
                settled = torch.zeros_like(left, dtype=torch.bool)
        return Solution(codes, gap, spent)

    def _advance(self) -> None:
        """One iteration, in as few passes over the codes as there are."""
        lasso, (ahead, residual) = self.lasso, self._ahead()
        if lasso.nonnegative:
            codes = self.products.descend(ahead, residual, self.step, lasso.lambda_).relu_()
        else:
            codes = lasso.shrink_(self.products.descend(ahead, residual, self.step, 0.0), self.step * lasso.lambda_)
        self._arrive(codes, residual)

    def _checked(self) -> Tensor:
        """One iteration that also tells the relative duality gaps, (n,)."""
        lasso, (ahead, residual) = self.lasso, self._ahead()
        correlation = self.products.correlate(residual, out=self.correlation)
        self._arrive(lasso.shrink_(ahead.add_(correlation, alpha=self.step), self.step * lasso.lambda_), residual)
        self.lower = torch.maximum(self.lower, lasso.dual(residual, lasso.peak(correlation)))
        energy = lasso.energy(self.residual, self.codes)
        # Beyond 1 / bound descent is not certain: where the objective rises, the step gives way.
        if bool((energy > (1 + _RISE) * self.energy).any()):
            self.step = max(1 / lasso.bound, _SHORTER * self.step)
        self.energy = energy
        return _relative(energy, self.lower)

    def _ahead(self) -> tuple[Tensor, Tensor]:
        """The codes with their momentum, in the place of the last ones, and what they leave of the images."""
        return self.last.lerp_(self.codes, self.weight), self.last_residual.lerp(self.residual, self.weight)

    def _arrive(self, codes: Tensor, residual_ahead: Tensor) -> None:
        residual = self.products.residual(self.lasso.images, codes)
        # The gradient test of a restart, as it shows in the image: free, since all three are at hand.
        uphill = _dot(residual - residual_ahead, self.residual - residual) > 0
        self.weight = (2 - uphill.to(codes))[:, None, None, None]
        self.last, self.last_residual, self.codes, self.residual = self.codes, self.residual, codes, residual

    def _keep(self, rows: Tensor) -> None:
        self.lasso = self.lasso.at(rows)
        for name in ("codes", "last", "correlation", "residual", "last_residual", "weight", "lower", "energy"):
            setattr(self, name, getattr(self, name)[rows])


def _columns(solution: Solution) -> tuple[Tensor, Tensor, Tensor]:
    return solution.codes, solution.gap, solution.iterations


def squares(images: Tensor) -> Tensor:
    """(n, channels, height, width) -> (n,), the sum of squares."""
    return _dot(images, images)


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(dim=(1, 2, 3))


def _relative(energy: Tensor, lower: Tensor) -> Tensor:
    # An image of zeros is coded without error: no gap.
    return torch.where(energy == 0, 0, (energy - lower).clamp(min=0) / energy.clamp(min=torch.finfo(energy.dtype).tiny))


def _zeros(lasso: Lasso) -> Tensor:
    return lasso.images.new_zeros((len(lasso.images), *lasso.dictionary.codes))


def _through_images(lasso: Lasso, codes: Tensor) -> Tensor:
    return lasso.dictionary.correlate(lasso.dictionary.synthesise(codes)) - codes


def _lateral(dictionary: Dictionary) -> Callable[[Tensor], Tensor]:
    """From codes to what their neighbours, at other places or of other features, take off each of them."""
    atoms, stride = dictionary.atoms, dictionary.stride
    reach = (atoms.shape[-1] - 1) // stride
    gram = F.conv2d(atoms, atoms, stride=stride, padding=reach * stride)
    own = torch.arange(len(atoms), device=atoms.device)
    gram = gram.index_put((own, own, *(torch.full_like(own, reach),) * 2), torch.zeros_like(own, dtype=gram.dtype))
    return lambda codes: F.conv2d(codes, gram, padding=reach)
