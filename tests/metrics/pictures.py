"""Made-up images that a small network can tell apart, and guesses at them."""

import torch
from torch import Tensor

from fedsplit.records.images import Images, Shape
from fedsplit.records.truth import Truth

CLASSES = 3


def pictures(count: int, shape: Shape, seed: int) -> Images:
    """A bright spot at a random place on a gradient; the class says how wide the spot is."""
    rng = torch.Generator().manual_seed(seed)
    channels, height, width = shape
    labels = torch.randint(CLASSES, (count,), generator=rng)
    centre = torch.rand(count, 2, 1, 1, generator=rng)
    tint = 0.5 + 0.5 * torch.rand(count, channels, 1, 1, generator=rng)
    down, across = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)
    squared = (down - centre[:, 0]).square() + (across - centre[:, 1]).square()
    radius = 0.1 + 0.15 * labels[:, None, None]
    spot = torch.exp(-squared / (2 * radius**2))[:, None]
    pixels = (tint * spot + 0.2 * down).clamp(0, 1)
    return Images(pixels, labels, torch.arange(count), ("small", "middle", "large"))


def truth_of(images: Images) -> Truth:
    return Truth(images.pixels, images.labels, (images.pixels, images.labels))


def noisy(images: Tensor, std: float, seed: int = 0) -> Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed), dtype=images.dtype)
    return (images + std * noise).clamp(0, 1)
