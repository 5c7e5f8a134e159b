"""A Gaussian code of few numbers: from features to means and deviations, and from these to a sample."""

from math import prod

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from fedsplit.layers.bottleneck import Expansion
from fedsplit.layers.disturbed import Disturbance

_NARROW = 5
_FAINT = 2.0**-20


class GaussianMoments(nn.Module):
    """(n, *shape) -> (n, 2 k): k means, then k deviations. One linear map; softplus makes deviations of its second
    half, and they begin near 0.007, so that little is lost at first."""

    def __init__(self, shape: tuple[int, ...], features: int) -> None:
        super().__init__()
        self.map = nn.Linear(prod(shape), 2 * features)

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, *shape) -> (n, 2 k)."""
        mean, raw = self.map(inputs.flatten(start_dim=1)).chunk(2, dim=1)
        return torch.cat([mean, F.softplus(raw - _NARROW)], dim=1)


class GaussianSample(Disturbance):
    """(n, 2 k) -> (n, k): mean + deviation * noise, in evaluation mode too; left out, the mean."""

    def forward(self, moments: Tensor) -> Tensor:
        """(n, 2 k) -> (n, k)."""
        mean, deviation = moments.chunk(2, dim=1)
        if self.left_out:
            return mean
        return mean + deviation * torch.randn(mean.shape, dtype=mean.dtype, device="cpu").to(mean.device)


class UnsampledCode(nn.Module):
    """(n, 2 k) -> (n, 2 k): k means, then the deviations that `sampled` needs, and takes away.

    Those are so faint that who runs this segment and compares what it gives with what crossed compares means. To scale
    by a power of two costs no bit. In a mode in which nobody samples there are zeros at once.
    """

    def __init__(self, *, in_training: bool, at_inference: bool) -> None:
        super().__init__()
        self.in_training = in_training
        self.at_inference = at_inference

    def forward(self, moments: Tensor) -> Tensor:
        """(n, 2 k) -> (n, 2 k)."""
        mean, deviation = moments.chunk(2, dim=1)
        sampled = self.in_training if self.training else self.at_inference
        return torch.cat([mean, _FAINT * deviation if sampled else torch.zeros_like(deviation)], dim=1)


def as_in_training(segment: nn.Module) -> nn.Module:
    """The same segment, which leaves to be sampled in either mode what it does in training."""
    for module in segment.modules():
        if isinstance(module, UnsampledCode):
            module.at_inference = module.in_training
    return segment


def sampled(code: Tensor, rng: Generator) -> Tensor:
    """(n, 2 k), unsampled -> (n, 2 k): k numbers drawn with these means and deviations, then zeros."""
    mean, faint = code.chunk(2, dim=1)
    noise = torch.randn(mean.shape, generator=rng, device=rng.device, dtype=code.dtype).to(code.device)
    return torch.cat([mean + faint / _FAINT * noise, torch.zeros_like(faint)], dim=1)


class SampledExpansion(nn.Module):
    """(n, 2 k) -> (n, *shape): what `sampled` gave, without its zeros, in the shape that the next block expects."""

    def __init__(self, features: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.features = features
        self.expansion = Expansion(features, shape)

    def forward(self, code: Tensor) -> Tensor:
        """(n, 2 k) -> (n, *shape)."""
        return self.expansion(code[:, : self.features])
