"""Laplace noise on the smashed data (Titcombe, Hall, Papadopoulos, Romanini, DPML workshop at ICLR 2021)."""

import torch
from pydantic import PositiveFloat
from torch import Generator, Tensor

from fedsplit.defenses.base import Noise
from fedsplit.numerics.scale import spread
from fedsplit.numerics.uniform import uniform


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
        drawn = uniform(smashed, rng) - 0.5
        # The inverse distribution function; clamped since the generator's half-open interval holds -1/2 itself.
        magnitude = -torch.log1p(-2 * drawn.abs().clamp(max=0.5 - torch.finfo(smashed.dtype).eps))
        width = self.scale * spread(smashed.detach()) if self.relative else self.scale
        return smashed + width * drawn.sign() * magnitude
