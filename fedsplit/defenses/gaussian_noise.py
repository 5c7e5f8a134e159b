"""Gaussian noise on the smashed data (a baseline of Dibbo, Breuer, Moore, Teti, ECCV 2024)."""

import torch
from pydantic import PositiveFloat
from torch import Generator, Tensor

from fedsplit.defenses.base import Noise
from fedsplit.numerics.scale import spread


class GaussianNoise(Noise):
    """Adds independent Gaussian noise to every activation that leaves the client.

    The honest server trains on the noisy activations too, so utility pays for privacy. Fresh noise on every release:
    an adversary who can ask for the same image again averages it away.
    """

    std: PositiveFloat
    """Noise standard deviation, in units of the activation, or of each sample's own deviation where `relative`."""
    relative: bool = False
    """Whether `std` is a multiple of the standard deviation of the sample's smashed data."""

    @property
    def noise_variance(self) -> float | None:
        """Unless it depends on the sample."""
        return None if self.relative else self.std**2

    def release(self, smashed: Tensor, rng: Generator) -> Tensor:
        """(n, *cut shape) -> the same shape."""
        noise = torch.randn(smashed.shape, generator=rng, device=rng.device, dtype=smashed.dtype).to(smashed.device)
        scale = self.std * spread(smashed.detach()) if self.relative else self.std
        return smashed + scale * noise
