"""Synthetic pictures in the manner of radiographs: soft ellipses in the spirit of the Shepp-Logan phantom (Shepp,
Logan, IEEE Transactions on Nuclear Science 21(3), 1974), each image with a pose and small details of its own."""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

Part = tuple[float, float, float, float, float, float]
"""centre right, centre down, radius right, radius down (the picture is 2 wide), turn in degrees, added grey."""

_CHEST: tuple[Part, ...] = (
    (0, 0.05, 0.82, 0.80, 0, 0.55), (-0.36, 0.02, 0.27, 0.50, 6, -0.42), (0.36, 0.02, 0.27, 0.50, -6, -0.42),
    (0.12, 0.28, 0.26, 0.24, -30, 0.32), (0, 0.05, 0.07, 0.80, 0, 0.25), (-0.36, -0.60, 0.34, 0.035, 12, 0.25),
    (0.36, -0.60, 0.34, 0.035, -12, 0.25), (-0.40, -0.15, 0.30, 0.03, -15, 0.12), (0.40, -0.15, 0.30, 0.03, 15, 0.12),
    (-0.42, 0.12, 0.32, 0.03, -18, 0.12), (0.42, 0.12, 0.32, 0.03, 18, 0.12),
)  # fmt: skip
_HAND: tuple[Part, ...] = (
    (0, 0.28, 0.36, 0.34, 0, 0.60), (0, 0.85, 0.22, 0.40, 0, 0.55), (-0.34, -0.28, 0.075, 0.36, -14, 0.62),
    (-0.12, -0.42, 0.080, 0.42, -4, 0.62), (0.12, -0.42, 0.080, 0.42, 4, 0.62), (0.32, -0.28, 0.070, 0.34, 14, 0.62),
    (0.56, 0.12, 0.080, 0.30, 48, 0.62), (-0.12, 0.15, 0.035, 0.26, -4, 0.22), (0.10, 0.15, 0.035, 0.26, 4, 0.22),
)  # fmt: skip
_HEAD: tuple[Part, ...] = (
    (0, 0, 0.62, 0.80, 0, 0.95), (0, 0, 0.53, 0.71, 0, -0.50), (-0.14, -0.08, 0.08, 0.24, -16, -0.26),
    (0.14, -0.08, 0.08, 0.24, 16, -0.26), (0, 0.30, 0.05, 0.10, 0, -0.22), (0, -0.42, 0.016, 0.26, 0, 0.25),
)  # fmt: skip
_ABDOMEN: tuple[Part, ...] = (
    (0, 0.05, 0.88, 0.62, 0, 0.36), (-0.42, -0.06, 0.36, 0.34, -20, 0.26), (0.52, 0.02, 0.18, 0.25, 30, 0.24),
    (-0.32, 0.34, 0.13, 0.17, 20, 0.36), (0.32, 0.34, 0.13, 0.17, -20, 0.36), (0, 0.36, 0.13, 0.13, 0, 0.58),
    (0, 0.56, 0.05, 0.10, 0, 0.50), (0.22, -0.22, 0.20, 0.14, 10, -0.22),
)  # fmt: skip
_BREAST: tuple[Part, ...] = (
    (-0.42, -0.12, 0.30, 0.46, 0, 0.72), (0.42, -0.12, 0.30, 0.46, 0, 0.72), (0, 0.42, 0.82, 0.26, 0, 0.46),
    (0, 0.52, 0.60, 0.20, 0, -0.34), (-0.42, -0.22, 0.15, 0.22, 0, -0.34), (0.42, -0.22, 0.15, 0.22, 0, -0.34),
)  # fmt: skip
_KNEE: tuple[Part, ...] = (
    (0, 0, 0.46, 1.20, 0, 0.28), (0, -0.72, 0.17, 0.62, 0, 0.48), (-0.10, -0.18, 0.19, 0.17, 0, 0.30),
    (0.10, -0.18, 0.19, 0.17, 0, 0.30), (0, 0.20, 0.30, 0.13, 0, 0.46), (-0.04, 0.80, 0.13, 0.62, 0, 0.46),
    (0.28, 0.72, 0.055, 0.50, 0, 0.40), (0, -0.28, 0.13, 0.13, 0, 0.20),
)  # fmt: skip
_ATLAS = (_CHEST, _HAND, _HEAD, _ABDOMEN, _BREAST, _KNEE)
_LESIONS = 3
_BLOCK = 100_000
"""How many pixels are painted at a time: all that a stroke needs then stays in the processor's cache."""
_EDGE = 14.0
"""Steepness of an ellipse's edge, in grey per radius."""


def phantoms(count: int, shape: tuple[int, int, int], classes: int, rng: Generator) -> tuple[Tensor, Tensor]:
    """shape: (channels, height, width). -> images (count, *shape) in [0, 1], labels (count,), the classes in turn.

    The first six classes resemble chest, hand, head, abdomen, breasts and knee; further ones are made up, always alike.
    """
    anatomy = _anatomy(classes)
    labels = torch.arange(count) % classes
    size = max(1, _BLOCK // (shape[1] * shape[2]))
    return torch.cat([_painted(anatomy[own], shape, rng) for own in labels.split(size)]), labels


def _anatomy(classes: int) -> Tensor:
    """-> (classes, parts, 6); absent parts add no grey."""
    rng = Generator().manual_seed(1974)
    known = [torch.tensor(parts) for parts in _ATLAS[:classes]]
    made_up = [_made_up(rng) for _ in range(classes - len(known))]
    anatomy = torch.tensor((0.0, 0.0, 1.0, 1.0, 0.0, 0.0)).repeat(classes, max(map(len, [*known, *made_up])), 1)
    for label, parts in enumerate([*known, *made_up]):
        anatomy[label, : len(parts)] = parts
    return anatomy


def _made_up(rng: Generator) -> Tensor:
    """A body and eight organs. -> (9, 6)."""
    low = torch.tensor((-0.5, -0.5, 0.06, 0.06, -90.0, -0.35)).repeat(9, 1)
    high = torch.tensor((0.5, 0.5, 0.34, 0.34, 90.0, 0.45)).repeat(9, 1)
    low[0], high[0] = torch.tensor((-0.1, -0.1, 0.5, 0.5, -90, 0.35)), torch.tensor((0.1, 0.1, 0.85, 0.85, 90, 0.6))
    return low + (high - low) * torch.rand(9, 6, generator=rng)


def _painted(anatomy: Tensor, shape: tuple[int, int, int], rng: Generator) -> Tensor:
    """anatomy: (n, parts, 6). -> (n, *shape)."""
    channels, height, width = shape
    count = len(anatomy)

    def around(*size: int) -> Tensor:
        return torch.randn(count, *size, generator=rng).clamp_(-2.5, 2.5)

    own = anatomy.clone()
    own[..., :2] += 0.02 * around(anatomy.shape[1], 2)
    own[..., 2:4] *= 1 + 0.07 * around(anatomy.shape[1], 2)
    own[..., 4] += 4 * around(anatomy.shape[1])
    own[..., 5] *= 1 + 0.10 * around(anatomy.shape[1])
    down, right = _posed(height, width, around(4))
    grey = _ellipses(own, down, right)
    body = grey.clamp(0, 1)
    grey = grey + body.sqrt() * (_ellipses(_lesions(count, rng), down, right) + _texture(count, height, width, rng))
    grey = grey * (1 + 0.08 * around(1, 1)) + 0.02 + 0.008 * torch.randn(grey.shape, generator=rng)
    tint = 1 if channels == 1 else 0.6 + 0.4 * torch.rand(count, channels, 1, 1, generator=rng)
    return (grey[:, None] * tint).clamp(0, 1)


def _posed(height: int, width: int, draws: Tensor) -> tuple[Tensor, Tensor]:
    """draws: (n, 4), for turn, size and shifts. -> where each pixel lies in the anatomy, (n, height, width) twice."""
    down, right = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    turn, size, up, left = (draws * torch.tensor((math.radians(6), 0.06, 0.05, 0.05))).T[..., None, None]
    down, right = (down + up) * (1 + size), (right + left) * (1 + size)
    return down * turn.cos() - right * turn.sin(), right * turn.cos() + down * turn.sin()


def _ellipses(parts: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """parts: (n, parts, 6). -> their soft ellipses added up, (n, height, width)."""
    grey = torch.zeros_like(down)
    for number in range(parts.shape[1]):
        centre_right, centre_down, wide, high, turn, added = parts[:, number].T[..., None, None]
        turn = torch.deg2rad(turn)
        away_right, away_down = right - centre_right, down - centre_down
        along = (away_right * turn.cos() + away_down * turn.sin()) / wide
        across = (away_down * turn.cos() - away_right * turn.sin()) / high
        # An edge of about a hundredth of the picture at least, or thin parts would vanish between pixels.
        grey += added * torch.sigmoid(_EDGE * (1 - (along.square() + across.square()).sqrt()))
    return grey


def _lesions(count: int, rng: Generator) -> Tensor:
    """Up to three spots that only this image has. -> (n, 3, 6)."""
    low = torch.tensor((-0.5, -0.5, 0.05, 0.05, 0.0, -0.35))
    high = torch.tensor((0.5, 0.5, 0.13, 0.13, 90.0, 0.35))
    spots = low + (high - low) * torch.rand(count, _LESIONS, 6, generator=rng)
    spots[..., 5] *= torch.rand(count, _LESIONS, generator=rng) < 0.7
    return spots


def _texture(count: int, height: int, width: int, rng: Generator) -> Tensor:
    """Smooth unevenness of tissue. -> (n, height, width), standard deviation about 0.05."""
    coarse = torch.randn(count, 1, 9, 9, generator=rng)
    return 0.07 * F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)[:, 0]
