"""Laplace noise on the smashed data (Titcombe, Hall, Papadopoulos, Romanini, DPML workshop at ICLR 2021)."""

from pydantic import PositiveFloat
from torch import Generator, Tensor

from fedsplit.defenses.base import Noise
from fedsplit.numerics.laplace import laplace
from fedsplit.numerics.scale import spread


class LaplaceNoise(Noise):
    """Adds independent Laplace noise to every activation that leaves the client, fresh on every release."""

    scale: PositiveFloat
    """The distribution's scale b (standard deviation b * sqrt 2), in units of the activation, or of each sample's own
    deviation where `relative`."""
    relative: bool = False
    """Whether `scale` is a multiple of the standard deviation of the sample's smashed data."""

    @property
    def noise_variance(self) -> float | None:
        """Unless it depends on the sample."""
        return None if self.relative else 2 * self.scale**2

    def release(self, smashed: Tensor, rng: Generator) -> Tensor:
        """(n, *cut shape) -> the same shape."""
        width = self.scale * spread(smashed.detach()) if self.relative else self.scale
        return smashed + width * laplace(smashed, rng)
