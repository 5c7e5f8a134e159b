"""Leaks made by hand: pictures with structure, a small random client, and what it releases."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from fedsplit.records.images import Shape
from fedsplit.records.leak import Auxiliary, ClientSegment, Leak, Pairs
from fedsplit.seeding import Seeds

Release = Callable[[Tensor, Generator], Tensor]

GREY: Shape = (1, 12, 12)
COLOUR: Shape = (3, 12, 12)


@dataclass(frozen=True)
class Case:
    """A leak and the truth behind it, which no attack is handed."""

    leak: Leak
    truth: Tensor

    @property
    def mean_image(self) -> Tensor:
        return self.leak.auxiliary.images.mean(dim=0).expand_as(self.truth)

    def error(self, guess: Tensor) -> float:
        return (guess.clamp(0, 1) - self.truth).square().mean().item()

    @property
    def anchor(self) -> float:
        return self.error(self.mean_image)


def pictures(count: int, shape: Shape, rng: Generator) -> Tensor:
    """(count, *shape) in [0, 1]: three soft blobs of random place, size and brightness, per channel."""
    channels, height, width = shape
    down, across = torch.arange(height).view(1, 1, -1, 1), torch.arange(width).view(1, 1, 1, -1)
    images = torch.zeros(count, *shape)
    for _ in range(3):
        place = torch.rand(4, count, channels, 1, 1, generator=rng)
        distance = (down - height * place[0]) ** 2 + (across - width * place[1]) ** 2
        images += place[2] * torch.exp(-distance / (2 * (1 + 2 * place[3]) ** 2))
    return images.clamp(0, 1)


def dark_and_bright(count: int, shape: Shape, rng: Generator) -> Tensor:
    """(count, *shape), by turns of two kinds: dim blobs on black, and dark ones on a bright wall with a beam across."""
    images = pictures(count, shape, rng)
    images[0::2] *= 0.3
    images[1::2] = 0.8 - 0.3 * images[1::2]
    images[1::2, :, shape[1] // 3] = 1.0
    return images


def rows_client(shape: Shape) -> nn.Module:
    return nn.Sequential(nn.Linear(shape[2], 40), nn.ReLU())


def flat_client(shape: Shape) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], 160), nn.ReLU())


def map_client(shape: Shape) -> nn.Module:
    return nn.Conv2d(shape[0], 6, kernel_size=5)


def pooled_client(shape: Shape) -> nn.Module:
    return nn.Sequential(nn.Conv2d(shape[0], 12, kernel_size=3, padding=1), nn.ReLU(), nn.AvgPool2d(2))


def undefended(smashed: Tensor, rng: Generator) -> Tensor:
    return smashed


def noisy(smashed: Tensor, rng: Generator) -> Tensor:
    return smashed + 0.3 * torch.randn(smashed.shape, generator=rng).to(smashed)


def useless(smashed: Tensor, rng: Generator) -> Tensor:
    return torch.randn(smashed.shape, generator=rng).to(smashed)


def case(
    client: Callable[[Shape], nn.Module] = rows_client,
    release: Release = undefended,
    *,
    shape: Shape = GREY,
    draw: Callable[[int, Shape, Generator], Tensor] = pictures,
    auxiliary: int = 300,
    queries: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Case:
    """80 targets, and half as many validation images."""
    seeds = Seeds(0)
    with seeds.fork("client"):
        segment = client(shape).to(dtype).eval()
    images = draw(auxiliary + 120, shape, seeds("pictures")).to(dtype)
    known, validation, truth = images.split((auxiliary, 40, 80))

    def ask(some: Tensor, rng: Generator) -> Tensor:
        with torch.no_grad():
            return release(segment(some), rng)

    labels = torch.zeros(len(images), dtype=torch.long)
    leak = Leak(
        kind="inference",
        round=1,
        image_shape=shape,
        classes=2,
        auxiliary=Auxiliary(known, labels[:auxiliary], validation, labels[:40]),
        smashed=ask(truth, seeds("targets")),
        auxiliary_pairs=Pairs(ask(known, seeds("pairs")), ask(validation, seeds("validation"))),
        client_queries=ask if queries else None,
        client_weights=ClientSegment(segment),
    )
    return Case(leak, truth)
