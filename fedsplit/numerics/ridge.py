"""Ridge regression with an intercept, its strength chosen by exact leave-one-out error in closed form.

Hoerl and Kennard, "Ridge regression: biased estimation for nonorthogonal problems", Technometrics 1970; the
leave-one-out identity is that of Allen's PRESS statistic (Technometrics 1974), here for blocks of rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

STRENGTHS = (*(10.0**power for power in range(-10, 2)), float("inf"))
"""Relative to the largest eigenvalue of the features' scatter; under an infinite one the guess is the mean target."""

JUDGED = 256
"""Blocks of rows that are left out, one at a time, to judge a strength."""

_CHUNK = 4096


@dataclass(frozen=True)
class _Axes(ABC):
    """The principal axes of the features that were fitted. mean: (m,). values: (r,) eigenvalues of their scatter,
    ascending. vectors: in columns, the eigenvectors."""

    mean: Tensor
    values: Tensor
    vectors: Tensor

    @abstractmethod
    def scores(self, features: Tensor) -> Tensor:
        """(k, m) -> (k, r) in float64, the centred features on the axes."""

    @abstractmethod
    def own_scores(self, features: Tensor, rows: Tensor) -> Tensor:
        """Those of some of the features that were fitted, at less cost where there is less to do. -> (k, r)."""

    @abstractmethod
    def loads(self, features: Tensor, target: Tensor) -> Tensor:
        """(n, m) and centred (n, outputs), all that were fitted -> (r, outputs), scores times targets."""

    @abstractmethod
    def back(self, on_axes: Tensor) -> Tensor:
        """(r, outputs) -> (m, outputs)."""

    def by_scores(self, outputs: int) -> bool:
        """Whether a prediction of so many outputs goes by scores, since weights would be more numbers than the rows."""
        del outputs
        return False


class _Primal(_Axes):
    """Of no more features than rows; vectors: (m, r)."""

    def scores(self, features: Tensor) -> Tensor:
        return (features.double() - self.mean) @ self.vectors

    def own_scores(self, features: Tensor, rows: Tensor) -> Tensor:
        return self.scores(features[rows])

    def loads(self, features: Tensor, target: Tensor) -> Tensor:
        moment = torch.zeros(features.shape[1], target.shape[1], dtype=torch.float64, device=features.device)
        for some, theirs in zip(features.split(_CHUNK), target.split(_CHUNK), strict=True):
            moment += (some.double() - self.mean).T @ theirs
        return self.vectors.T @ moment

    def back(self, on_axes: Tensor) -> Tensor:
        return self.vectors @ on_axes


@dataclass(frozen=True)
class _Dual(_Axes):
    """Of fewer rows than features, which stay at hand: (n, m). vectors: (n, r), of the rows."""

    features: Tensor

    def scores(self, features: Tensor) -> Tensor:
        return _products(features, self.features, self.mean) @ (self.vectors * _inverse(self.values.sqrt()))

    def own_scores(self, features: Tensor, rows: Tensor) -> Tensor:
        del features
        return self.vectors[rows] * self.values.sqrt()

    def loads(self, features: Tensor, target: Tensor) -> Tensor:
        del features
        return self.values.sqrt()[:, None] * (self.vectors.T @ target)

    def back(self, on_axes: Tensor) -> Tensor:
        combination = self.vectors @ (_inverse(self.values.sqrt())[:, None] * on_axes)
        return torch.cat([away.T @ combination for (away,) in _centered_columns(self.mean, self.features)])

    def by_scores(self, outputs: int) -> bool:
        return len(self.features) <= outputs


@dataclass(frozen=True)
class Ridge:
    """prediction = features @ weight + intercept.

    axes: of the features, and loads: (r, outputs), of the targets on them. target_mean: (outputs,).
    strength: the chosen one of the strengths tried, and inverse: (r,), what it makes of every axis.
    errors: the mean squared leave-one-out error of each strength, in order. dtype: of what comes out.
    """

    axes: _Axes
    loads: Tensor
    target_mean: Tensor
    strength: float
    inverse: Tensor
    errors: tuple[float, ...]
    dtype: torch.dtype

    @cached_property
    def weight(self) -> Tensor:
        """(features, outputs)."""
        return self.axes.back(self.inverse[:, None] * self.loads).to(self.dtype)

    @cached_property
    def intercept(self) -> Tensor:
        """(outputs,). Of the weights as they were rounded, so that at the mean of the features nothing is off."""
        return (self.target_mean - self.axes.mean @ self.weight.double()).to(self.dtype)

    def predict(self, features: Tensor) -> Tensor:
        """(n, features) -> (n, outputs)."""
        if self.axes.by_scores(len(self.target_mean)):
            return self.on_axes(self.axes.scores(features))
        return features @ self.weight + self.intercept

    def on_axes(self, scores: Tensor) -> Tensor:
        """(n, r) -> (n, outputs)."""
        return (scores @ (self.inverse[:, None] * self.loads) + self.target_mean).to(self.dtype)


def left_out_residuals(ridge: Ridge, features: Tensor, targets: Tensor) -> Tensor:
    """Of each row that `ridge` was fitted to, what the fit to all others says too little. features: (n, m).
    targets, and what comes back: (n, outputs)."""
    scores = ridge.axes.own_scores(features, torch.arange(len(features), device=features.device))
    judged = _Judged(ridge.loads, scores, targets.double() - ridge.target_mean, len(features), 1)
    return judged.left_out(ridge.inverse).to(targets)


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
    axes = _axes(features)
    rows = _judged_rows(len(features), block, judged).to(features.device)
    scores = axes.own_scores(features, rows)

    def fit(target: Tensor) -> Ridge:
        mean = target.mean(dim=0, dtype=torch.float64)
        centered = target.double() - mean
        loads = axes.loads(features, centered)
        left_out = _Judged(loads, scores, centered[rows], len(features), block)
        inverses = [_inverse(axes.values + strength * axes.values[-1]) for strength in strengths]
        errors = tuple(left_out.left_out(inverse).square().mean().item() for inverse in inverses)
        best = min(range(len(strengths)), key=errors.__getitem__)
        return Ridge(axes, loads, mean, strengths[best], inverses[best], errors, target.dtype)

    return tuple(fit(target) for target in targets)


def _axes(features: Tensor) -> _Axes:
    mean = features.mean(dim=0, dtype=torch.float64)
    rows, count = features.shape
    if rows < count:
        return _Dual(mean, *_spectrum(_products(features, features, mean)), features)
    scatter = torch.zeros(count, count, dtype=torch.float64, device=features.device)
    # By rows, since many draws in float64 may not fit into memory.
    for some in features.split(_CHUNK):
        away = some.double() - mean
        scatter += away.T @ away
    return _Primal(mean, *_spectrum(scatter))


@dataclass(frozen=True)
class _Judged:
    """Rows that are left out, block by block. scores: (judged rows, r) and targets: (judged rows, outputs), centred.
    rows: how many were fitted. block: how many are left out together."""

    loads: Tensor
    scores: Tensor
    targets: Tensor
    rows: int
    block: int

    def left_out(self, inverse: Tensor) -> Tensor:
        """(judged rows, outputs): less what the fit to all other blocks predicts: their residual, times the inverse of
        one minus leverage."""
        residual = self.targets - self.scores @ (self.loads * inverse[:, None])
        if self.rows == self.block:
            # Nothing is left to fit: all that can be asked is how it fits.
            return residual
        scores = self.scores.unflatten(0, (-1, self.block))
        leverage = (scores * inverse) @ scores.mT + 1 / self.rows
        remainder = torch.eye(self.block, dtype=leverage.dtype, device=leverage.device) - leverage
        return torch.linalg.solve(remainder, residual.unflatten(0, (-1, self.block))).flatten(0, 1)


def _judged_rows(rows: int, block: int, judged: int) -> Tensor:
    blocks = rows // block
    chosen = torch.arange(min(judged, blocks)) * blocks // min(judged, blocks)
    return (chosen[:, None] * block + torch.arange(block)).flatten()


def _products(some: Tensor, others: Tensor, mean: Tensor) -> Tensor:
    """(k, m), (n, m) -> (k, n) inner products of what they are away from the mean."""
    found = torch.zeros(len(some), len(others), dtype=torch.float64, device=some.device)
    for one, other in _centered_columns(mean, some, others):
        found = found + one @ other.T
    return found


def _centered_columns(mean: Tensor, *features: Tensor) -> Iterator[tuple[Tensor, ...]]:
    # By columns, since wide features in float64 may not fit into memory.
    for center, *columns in zip(mean.split(_CHUNK), *(some.split(_CHUNK, dim=1) for some in features), strict=True):
        yield tuple(some.double() - center for some in columns)


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
