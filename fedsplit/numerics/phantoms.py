"""Synthetic images that resemble radiographs: a body outline and organs per class, and private detail per image."""

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

_ORGANS = 5
_LESIONS = 3


def phantoms(count: int, shape: tuple[int, int, int], classes: int, rng: Generator) -> tuple[Tensor, Tensor]:
    """-> images (count, channels, height, width) in [0, 1], labels (count,).

    A class is an anatomy: the body's outline and organs, all smooth ellipses, the same for every generator. An image is a
    body of that class in a pose of its own (shift, turn, size, contrast), with private detail that no other image has:
    lesions at random places, and a fine texture.
    """
    channels, height, width = shape
    labels = torch.arange(count) % classes
    grid = _grid(height, width)
    moved = _posed(grid, count, rng)
    anatomy = torch.stack([_anatomy(label) for label in range(classes)])
    images = torch.zeros(count, height, width)
    for part in range(_ORGANS + 1):
        images += _ellipse(moved, anatomy[labels, part])
    for _ in range(_LESIONS):
        images += _ellipse(moved, _lesion(count, rng)) * images.clamp(0, 1)
    contrast = 0.8 + 0.4 * torch.rand(count, 1, 1, generator=rng)
    texture = _texture(count, height, width, rng) * (0.02 + 0.1 * images.clamp(0, 1))
    pixels = (images * contrast + texture).clamp(0, 1)[:, None]
    tint = 1 - 0.15 * torch.arange(channels).view(1, channels, 1, 1)
    return (pixels * tint).clamp(0, 1), labels


def _grid(height: int, width: int) -> Tensor:
    rows, columns = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)


def _posed(grid: Tensor, count: int, rng: Generator) -> Tensor:
    """(count, height, width, 2): where in the body every pixel looks."""
    turn = 0.25 * (torch.rand(count, generator=rng) - 0.5)
    rotation = torch.stack([turn.cos(), -turn.sin(), turn.sin(), turn.cos()], dim=-1).view(count, 2, 2)
    size = 0.85 + 0.3 * torch.rand(count, 1, 1, 1, generator=rng)
    shift = 0.2 * (torch.rand(count, 1, 1, 2, generator=rng) - 0.5)
    return torch.einsum("hwi,nij->nhwj", grid, rotation) / size + shift


def _anatomy(label: int) -> Tensor:
    """(1 + organs, 6): centre, half axes, angle, brightness of the body and of its organs; fixed for a class."""
    rng = Generator().manual_seed(7919 * (label + 1))
    draw = torch.rand(1 + _ORGANS, 6, generator=rng)
    body = torch.tensor([0.0, 0.0, 0.55, 0.45, 0.0, 0.35]) + 0.3 * (draw[0] - 0.5) * torch.tensor([0, 0, 1, 1, 2.0, 0.5])
    centres = 0.9 * (draw[1:, :2] - 0.5) * body[2:4] * 1.6
    axes = 0.07 + 0.22 * draw[1:, 2:4]
    angle = 3.1 * draw[1:, 4:5]
    brightness = torch.where(draw[1:, 5:] < 0.4, -0.22, 0.15 + 0.4 * draw[1:, 5:])
    return torch.cat([body[None], torch.cat([centres, axes, angle, brightness], dim=1)])


def _lesion(count: int, rng: Generator) -> Tensor:
    draw = torch.rand(count, 6, generator=rng)
    centre = 0.9 * (draw[:, :2] - 0.5)
    axes = 0.04 + 0.07 * draw[:, 2:4]
    brightness = torch.where(draw[:, 5:] < 0.5, -0.5, 0.7)
    return torch.cat([centre, axes, 3.1 * draw[:, 4:5], brightness], dim=1)


def _ellipse(places: Tensor, ellipse: Tensor) -> Tensor:
    """places (n, height, width, 2), ellipse (n, 6) -> (n, height, width), smooth at the edge."""
    centre, axes = ellipse[:, None, None, :2], ellipse[:, None, None, 2:4]
    angle, brightness = ellipse[:, 4, None, None], ellipse[:, 5, None, None]
    rows, columns = (places - centre).unbind(dim=-1)
    along = (rows * angle.cos() + columns * angle.sin()) / axes[..., 0]
    across = (columns * angle.cos() - rows * angle.sin()) / axes[..., 1]
    return brightness * torch.sigmoid(8 * (1 - (along.square() + across.square() + 1e-6).sqrt()))


def _texture(count: int, height: int, width: int, rng: Generator) -> Tensor:
    coarse = torch.randn(count, 1, max(2, height // 2), max(2, width // 2), generator=rng)
    return F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)[:, 0]
