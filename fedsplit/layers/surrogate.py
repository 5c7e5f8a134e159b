"""Inversion networks that a client trains itself, to know what an adversary's would learn from its answers (Yang,
Zhang, Chang and Liang, "Neural network inversion in adversarial setting via background knowledge alignment", CCS
2019)."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from fedsplit.records.images import Shape
from fedsplit.seeding import Seeds

_HIDDEN = 64
_CHANNELS = 16
_BATCH = 32
_RATE = 0.003
_LARGEST_LINEAR = 1_000_000
_LEAST_CONFIDENCE = 1e-4
"""What is less likely reads alike, or the logarithm's gradient would leave the confidences in sight no weight."""


class Reading(nn.Module):
    """(n, *seen) -> (n, features): in a row, on request as logarithms, of mean zero and deviation one."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, seen: Tensor, *, logarithms: bool) -> None:
        """seen: of the client's own rows, to which mean and deviation belong."""
        super().__init__()
        self.logarithms = logarithms
        plain = self._plain(seen)
        mean, deviation = plain.mean(dim=0), (plain - plain.mean(dim=0)).square().mean().sqrt()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", torch.where(deviation > 0, deviation, 1))

    def forward(self, seen: Tensor) -> Tensor:
        """(n, *seen) -> (n, features)."""
        return (self._plain(seen) - self.mean) / self.deviation

    def _plain(self, seen: Tensor) -> Tensor:
        rows = seen.flatten(1)
        return (rows + _LEAST_CONFIDENCE).log() if self.logarithms else rows


class Grown(nn.Module):
    """(n, features) -> (n, *image): maps of a quarter of the side that grow by convolutions with tanh, as the published
    network's do; without its normalisation, which would make one row's gradient another's, and with shuffled pixels in
    place of strides, which are faster to differentiate twice."""

    def __init__(self, features: int, image: Shape) -> None:
        super().__init__()
        self.image = image
        self.small = _CHANNELS, -(-image[1] // 4), -(-image[2] // 4)
        self.spread = nn.Linear(features, prod(self.small))
        self.first = _doubling(_CHANNELS, _CHANNELS // 2)
        self.second = _doubling(_CHANNELS // 2, image[0])

    def forward(self, features: Tensor) -> Tensor:
        """(n, features) -> (n, *image), in [0, 1]."""
        maps = self.spread(features).tanh().view(-1, *self.small)
        images = self.second(self.first(maps).tanh()).sigmoid()
        return images[:, :, : self.image[1], : self.image[2]]


def _doubling(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, 4 * outputs, kernel_size=3, padding=1), nn.PixelShuffle(2))


@dataclass(frozen=True)
class Surrogate:
    """network: what is seen -> images, as far as it is trained. power: of the errors whose mean is its loss."""

    network: nn.Module
    power: int

    def losses(self, seen: Tensor, images: Tensor) -> Tensor:
        """(n,): of each row."""
        return (self.network(seen) - images).abs().pow(self.power).flatten(1).mean(dim=1)

    def gradient(self, seen: Tensor, images: Tensor, weights: Tensor | None = None) -> Tensor:
        """(parameters,): of the mean loss, or of the sum of losses times weights (n,). Differentiable by all three."""
        losses = self.losses(seen, images)
        total = losses.mean() if weights is None else (weights * losses).sum()
        gradients = torch.autograd.grad(total, tuple(self.network.parameters()), create_graph=True)
        return torch.cat([gradient.flatten() for gradient in gradients])

    def slopes(self, seen: Tensor, images: Tensor, direction: Tensor) -> Tensor:
        """(n,): the product of each row's own gradient and a direction (parameters,), without making the gradients."""
        # The gradient is linear in the weights, and what a weight multiplies is the row's own.
        weights = torch.ones(len(seen), dtype=seen.dtype, device=seen.device, requires_grad=True)
        return torch.autograd.grad(self.gradient(seen, images, weights) @ direction, weights, create_graph=True)[0]


def train_surrogates(
    seen: Tensor, images: Tensor, passes: Sequence[int], seeds: Seeds, *, logarithms: bool
) -> tuple[Surrogate, ...]:
    """Several architectures and losses, each after every number of passes over the rows; zero is as it was drawn.

    seen: (n, *seen). images: (n, *image). logarithms: whether some of them read what is seen as confidences.
    """
    shape: Shape = (images.shape[1], images.shape[2], images.shape[3])
    features, pixels = seen[0].numel(), prod(shape)
    with seeds.fork("surrogates"):
        plain, logarithmic = Reading(seen, logarithms=False), Reading(seen, logarithms=logarithms)
        hidden = nn.Sequential(nn.Linear(features, _HIDDEN), nn.Tanh(), nn.Linear(_HIDDEN, pixels))
        drawn = [
            Surrogate(nn.Sequential(plain, hidden, nn.Unflatten(1, shape)), power=1),
            Surrogate(nn.Sequential(copy.deepcopy(logarithmic), Grown(features, shape)), power=2),
        ]
        if features * pixels <= _LARGEST_LINEAR:
            linear = nn.Sequential(logarithmic, nn.Linear(features, pixels), nn.Unflatten(1, shape))
            drawn.append(Surrogate(linear, power=2))
    for surrogate in drawn:
        surrogate.network.to(seen)
    return tuple(
        one
        for number, surrogate in enumerate(drawn)
        for one in _snapshots(surrogate, seen, images, passes, seeds.child("order", number))
    )


def _snapshots(
    surrogate: Surrogate, seen: Tensor, images: Tensor, passes: Sequence[int], seeds: Seeds
) -> list[Surrogate]:
    rng, found = seeds(), dict[int, Surrogate]()
    optimizer = torch.optim.Adam(surrogate.network.parameters(), lr=_RATE)
    for done in range(max(passes) + 1):
        if done in passes:
            found[done] = Surrogate(copy.deepcopy(surrogate.network), surrogate.power)
        if done == max(passes):
            break
        for rows in torch.randperm(len(seen), generator=rng).to(seen.device).split(_BATCH):
            optimizer.zero_grad()
            with torch.enable_grad():
                surrogate.losses(seen[rows], images[rows]).mean().backward()
            optimizer.step()
    return [found[done] for done in sorted(found)]
