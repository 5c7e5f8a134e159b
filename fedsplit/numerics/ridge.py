"""Ridge regression with an intercept, its strength chosen by exact leave-one-out error in closed form.

Hoerl and Kennard, "Ridge regression: biased estimation for nonorthogonal problems", Technometrics 1970; the
leave-one-out identity is that of Allen's PRESS statistic (Technometrics 1974), here for blocks of rows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

STRENGTHS = (*(10.0**power for power in range(-10, 2)), float("inf"))
"""Relative to the largest eigenvalue of the features' scatter; under an infinite one the guess is the mean target."""

JUDGED = 256
"""Blocks of rows that are left out, one at a time, to judge a strength."""

_CHUNK = 4096


@dataclass(frozen=True)
class Ridge:
    """prediction = features @ weight + intercept.

    weight: (features, outputs). intercept: (outputs,). strength: the chosen one of the strengths tried.
    errors: the mean squared leave-one-out error of each strength, in order.
    """

    weight: Tensor
    intercept: Tensor
    strength: float
    errors: tuple[float, ...]

    def predict(self, features: Tensor) -> Tensor:
        """(n, features) -> (n, outputs)."""
        return features @ self.weight + self.intercept


def fit_ridge(
    features: Tensor,
    targets: Tensor,
    strengths: Sequence[float] = STRENGTHS,
    block: int = 1,
    judged: int = JUDGED,
) -> Ridge:
    """The fit of the strength with the least leave-one-out error; all strengths share one eigendecomposition.

    features: (n, m). targets: (n, outputs). strengths: positive, relative to the largest eigenvalue of the scatter.
    block: how many neighbouring rows are left out together, since they are draws of one thing; divides n.
    judged: of how many evenly spaced blocks the error is taken. Every fit is to all rows but the block left out.
    The smaller of the (m, m) and (n, n) scatter is decomposed, in float64; the result has the dtype of the targets.
    """
    return fit_ridges(features, (targets,), strengths, block, judged)[0]


def fit_ridges(
    features: Tensor,
    targets: Sequence[Tensor],
    strengths: Sequence[float] = STRENGTHS,
    block: int = 1,
    judged: int = JUDGED,
) -> tuple[Ridge, ...]:
    """As `fit_ridge`, for several targets that each have a strength of their own, at the price of about one."""
    feature_mean = features.mean(dim=0, dtype=torch.float64)
    target_means = [target.mean(dim=0, dtype=torch.float64) for target in targets]
    centered = [target.double() - mean for target, mean in zip(targets, target_means, strict=True)]
    rows = _judged_rows(len(features), block, judged).to(features.device)
    solve = _primal if features.shape[0] >= features.shape[1] else _dual
    solutions = solve(features, feature_mean, centered, rows)
    return tuple(
        _choose(_LeftOut(solution, some[rows], len(features), block), strengths, feature_mean, mean, target.dtype)
        for solution, some, mean, target in zip(solutions, centered, target_means, targets, strict=True)
    )


def _choose(
    left_out: "_LeftOut", strengths: Sequence[float], feature_mean: Tensor, target_mean: Tensor, dtype: torch.dtype
) -> Ridge:
    solution = left_out.solution
    penalties = [strength * solution.values[-1] for strength in strengths]
    errors = tuple(left_out.error(penalty) for penalty in penalties)
    best = min(range(len(strengths)), key=errors.__getitem__)
    weight = solution.weight(_inverse(solution.values + penalties[best]))
    intercept = target_mean - feature_mean @ weight
    return Ridge(weight.to(dtype), intercept.to(dtype), strengths[best], errors)


@dataclass(frozen=True)
class _Solution:
    """Every ridge fit of one target, in the basis of the features' principal axes.

    values: (r,) eigenvalues of the scatter, ascending. loads: (r, outputs), scores times targets.
    scores: (judged rows, r), centred features on the axes. weight: the inverse of (values + penalty) -> (m, outputs).
    """

    values: Tensor
    loads: Tensor
    scores: Tensor
    weight: Callable[[Tensor], Tensor]


def _primal(features: Tensor, mean: Tensor, targets: Sequence[Tensor], judged: Tensor) -> list[_Solution]:
    count = features.shape[1]
    scatter = torch.zeros(count, count, dtype=torch.float64, device=features.device)
    moments = [torch.zeros(count, target.shape[1], dtype=torch.float64, device=features.device) for target in targets]
    # By rows, since many draws in float64 may not fit into memory.
    for some, *theirs in zip(features.split(_CHUNK), *(target.split(_CHUNK) for target in targets), strict=True):
        centered = some.double() - mean
        scatter += centered.T @ centered
        moments = [moment + centered.T @ target for moment, target in zip(moments, theirs, strict=True)]
    values, axes = _spectrum(scatter)
    scores = (features[judged].double() - mean) @ axes

    def solution(loads: Tensor) -> _Solution:
        return _Solution(values, loads, scores, lambda inverse: axes @ (loads * inverse[:, None]))

    return [solution(axes.T @ moment) for moment in moments]


def _dual(features: Tensor, mean: Tensor, targets: Sequence[Tensor], judged: Tensor) -> list[_Solution]:
    gram = torch.zeros(len(features), len(features), dtype=torch.float64, device=features.device)
    for centered in _centered_columns(features, mean):
        gram += centered @ centered.T
    values, vectors = _spectrum(gram)
    scores = vectors[judged] * values.sqrt()

    def solution(projected: Tensor) -> _Solution:
        def weight(inverse: Tensor) -> Tensor:
            combination = vectors @ (inverse[:, None] * projected)
            return torch.cat([centered.T @ combination for centered in _centered_columns(features, mean)])

        return _Solution(values, projected * values.sqrt()[:, None], scores, weight)

    return [solution(vectors.T @ target) for target in targets]


@dataclass(frozen=True)
class _LeftOut:
    """Blocks of rows predicted by the fit to all others: their residual, times the inverse of one minus leverage."""

    solution: _Solution
    targets: Tensor
    rows: int
    block: int

    def error(self, penalty: Tensor) -> float:
        inverse = _inverse(self.solution.values + penalty)
        residual = self.targets - self.solution.scores @ (self.solution.loads * inverse[:, None])
        if self.rows == self.block:
            # Nothing is left to fit: all that can be asked is how it fits.
            return residual.square().mean().item()
        scores = self.solution.scores.unflatten(0, (-1, self.block))
        leverage = (scores * inverse) @ scores.mT + 1 / self.rows
        remainder = torch.eye(self.block, dtype=leverage.dtype, device=leverage.device) - leverage
        return torch.linalg.solve(remainder, residual.unflatten(0, (-1, self.block))).square().mean().item()


def _judged_rows(rows: int, block: int, judged: int) -> Tensor:
    blocks = rows // block
    chosen = torch.arange(min(judged, blocks)) * blocks // min(judged, blocks)
    return (chosen[:, None] * block + torch.arange(block)).flatten()


def _centered_columns(features: Tensor, mean: Tensor) -> Iterator[Tensor]:
    # By columns, since wide features in float64 may not fit into memory.
    for columns, center in zip(features.split(_CHUNK, dim=1), mean.split(_CHUNK), strict=True):
        yield columns.double() - center


def _spectrum(scatter: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, and eigenvectors; values that are nothing but rounding are zero.

    Centred rows have at least one of these. Under the least penalties it would pass for leverage, and where rows are
    all but interpolated, leverage is what the left-out error hangs on: noise could then seem to be understood.
    """
    values, vectors = torch.linalg.eigh(scatter)
    rounding = values[-1] * len(values) * torch.finfo(values.dtype).eps
    return torch.where(values > rounding, values, 0.0), vectors


def _inverse(values: Tensor) -> Tensor:
    # Features that never change have no scatter, hence no penalty either: their weight is zero.
    return torch.where(values > 0, 1 / values, 0.0)
