"""A stand-in for a client that nobody can look into: images into a space of the client's shape (the pilot network of
Pasquini, Ateniese and Bernaschi, "Unleashing the tiger: inference attacks on split learning", CCS 2021)."""

from math import prod

import torch
from torch import Tensor, nn

from fedsplit.records.images import Shape


class Pilot(nn.Module):
    """(n, *image) -> (n, *cut), whatever the cut: two convolutions, then places and channels by linear maps.

    Its outputs begin with the mean and the spread of what the client sends, and have no negative values where the
    client sends none: beyond what the client can reach there is nothing to steer it to.
    """

    spread: Tensor
    floor: Tensor

    def __init__(self, image: Shape, cut: tuple[int, ...], width: int) -> None:
        """width: feature maps of the convolutions. Initial weights come from torch's global generator."""
        super().__init__()
        self.cut = cut
        self.body = nn.Sequential(
            nn.Conv2d(image[0], width, kernel_size=3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, kernel_size=3, padding=1),
            nn.LeakyReLU(0.2),
        )
        self.head = _Places(width, image, cut) if len(cut) == 3 else _Flat(width, image, cut)
        self.register_buffer("spread", torch.ones(2))
        self.register_buffer("floor", torch.tensor(-torch.inf))

    @torch.no_grad()
    def aim(self, images: Tensor, smashed: Tensor) -> None:
        """Lays the outputs for these images over what the client sent: mean, spread, whether there are negatives."""
        outputs = self.head(self.body(images))
        scale = smashed.std() / outputs.std().clamp_min(torch.finfo(outputs.dtype).tiny)
        self.spread.copy_(torch.stack([scale, smashed.mean() - scale * outputs.mean()]))
        if bool((smashed >= 0).all()):
            self.floor.zero_()

    def forward(self, images: Tensor) -> Tensor:
        """(n, *image) -> (n, *cut)."""
        scale, shift = self.spread
        return torch.maximum(scale * self.head(self.body(images)) + shift, self.floor)


class _Flat(nn.Module):
    """(n, width, *sides) -> (n, *cut): from half the resolution, one linear map."""

    def __init__(self, width: int, image: Shape, cut: tuple[int, ...]) -> None:
        super().__init__()
        self.cut = cut
        sides = [-(-side // 2) for side in image[1:]]
        self.halve = nn.AvgPool2d(2, ceil_mode=True)
        self.map = nn.Linear(width * prod(sides), prod(cut))

    def forward(self, features: Tensor) -> Tensor:
        return self.map(self.halve(features).flatten(1)).view(-1, *self.cut)


class _Places(nn.Module):
    """(n, width, *sides) -> (n, *cut): the last axis, the one before, and the channels, each by a linear map."""

    def __init__(self, width: int, image: Shape, cut: tuple[int, ...]) -> None:
        super().__init__()
        self.across = nn.Parameter(_resampling(image[2], cut[2]))
        self.down = nn.Parameter(_resampling(image[1], cut[1]))
        self.channels = nn.Conv2d(width, cut[0], kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        return self.channels(self.down.mT @ (features @ self.across))


def _resampling(before: int, after: int) -> Tensor:
    """(before, after): at first every place after is the mean of the places before it that it covers."""
    return nn.functional.adaptive_avg_pool1d(torch.eye(before), after)
