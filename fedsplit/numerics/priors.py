"""Gaussian priors estimated from few samples of many dimensions: dense; and stationary in the plane, white or not.

The dense covariance is shrunk towards a multiple of the identity by as much as oracle approximation says (Chen, Wiesel,
Eldar and Hero, "Shrinkage algorithms for MMSE covariance estimation", IEEE Trans. Signal Processing 2010).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from fedsplit.numerics.torus import filtered

_FLOOR = 1e-6
_RAREST = 0.1
"""Relative to the largest deviation of a channel: one that few samples know hardly anything of may yet be active."""


@dataclass(frozen=True)
class FactorPrior:
    """Mean, and covariance `factor' factor + ridge I`, never formed unless asked for.

    mean: (d,) or (sites, d), where sites share the covariance. factor: (n, d). ridge: above zero.
    """

    mean: Tensor
    factor: Tensor
    ridge: float

    def covariance(self) -> Tensor:
        """(d, d)."""
        identity = torch.eye(self.factor.shape[1], dtype=self.factor.dtype, device=self.factor.device)
        return self.factor.T @ self.factor + self.ridge * identity

    def precision(self) -> Tensor:
        """The covariance's inverse, (d, d)."""
        return torch.cholesky_inverse(torch.linalg.cholesky(self.covariance()))

    def spread(self, rows: Tensor) -> Tensor:
        """The covariance times each of some rows: (m, d) -> (m, d)."""
        return (rows @ self.factor.T) @ self.factor + self.ridge * rows


def factor_prior(samples: Tensor) -> FactorPrior:
    """samples: (n, d), or (n, sites, d) where every site has a mean of its own and all share one covariance."""
    mean = samples.mean(dim=0)
    deviations = (samples - mean).flatten(0, -2)
    count, size = deviations.shape
    scatter = deviations if count > size else deviations.T
    gram = scatter.T @ scatter / count
    trace, square = gram.trace(), gram.square().sum()
    distance = (count + 1 - 2 / size) * (square - trace**2 / size)
    shrinkage = (((1 - 2 / size) * square + trace**2) / distance).clamp(0, 1) if distance > 0 else torch.ones(())
    share = float(shrinkage)
    ridge = share * float(trace) / size + _FLOOR * float(trace) / size
    return FactorPrior(mean, deviations * ((1 - share) / count) ** 0.5, ridge or 1.0)


class PlanePrior(Protocol):
    """Of images: a mean at every place, and how deviations from it are coloured. mean: (channels, height, width)."""

    @property
    def mean(self) -> Tensor:
        """(channels, height, width)."""
        ...

    def coloured(self, white: Tensor) -> Tensor:
        """The covariance's symmetric root times (n, channels, height, width)."""
        ...

    def spread(self, planes: Tensor) -> Tensor:
        """The covariance times (n, channels, height, width)."""
        ...


@dataclass(frozen=True)
class WhitePrior:
    """Places are independent; each channel has a deviation of its own. deviation: (channels, 1, 1)."""

    mean: Tensor
    deviation: Tensor

    def coloured(self, white: Tensor) -> Tensor:
        """Each channel times its deviation."""
        return self.deviation.to(white) * white

    def spread(self, planes: Tensor) -> Tensor:
        """Each channel times its variance."""
        return self.deviation.square().to(planes) * planes


@dataclass(frozen=True)
class StationaryPrior:
    """A covariance that is alike at all places of a plane closed to a torus.

    root: (height, width // 2 + 1, channels, channels), complex: of the channels' covariance at each frequency.
    """

    mean: Tensor
    root: Tensor

    def coloured(self, white: Tensor) -> Tensor:
        """Each frequency's channels times its matrix."""
        return filtered(white, self.root)

    def spread(self, planes: Tensor) -> Tensor:
        """Each frequency's channels times their covariance."""
        return filtered(planes, self._covariance)

    @cached_property
    def _covariance(self) -> Tensor:
        return self.root @ self.root


def white_prior(samples: Tensor) -> WhitePrior:
    """samples: (n, channels, height, width)."""
    mean = samples.mean(dim=0)
    deviation = (samples - mean).square().mean(dim=(0, 2, 3)).sqrt()
    return WhitePrior(mean, deviation.clamp(min=_RAREST * (float(deviation.max()) or 1.0))[:, None, None])


def stationary_prior(samples: Tensor) -> StationaryPrior:
    """samples: (n, channels, height, width)."""
    mean = samples.mean(dim=0)
    waves = torch.fft.rfft2(samples - mean, norm="ortho").permute(2, 3, 1, 0)
    spectrum = waves @ waves.mH / len(samples)
    power = float(spectrum.diagonal(dim1=-2, dim2=-1).real.mean()) or 1.0
    values, axes = torch.linalg.eigh(spectrum)
    return StationaryPrior(mean, (axes * values.clamp(min=_FLOOR * power).sqrt()[..., None, :]) @ axes.mH)
