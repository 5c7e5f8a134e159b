"""Choosing images: some of them, or those of another data set that could stand beside the attacked ones."""

from dataclasses import replace

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from fedsplit.records.images import Images

_LUMA = (0.299, 0.587, 0.114)
"""Of red, green and blue in a grey of the same brightness (ITU-R BT.601)."""


def some(images: Images, count: int, rng: Generator) -> Images:
    """So many of them at random, in their order; or all."""
    return images.at(torch.randperm(len(images), generator=rng)[:count].sort().values)


def strangers(images: Images, attacked: Images) -> Images:
    """Another data set's images and classes, in the attacked ones' size and colours, without exact copies of any of
    these, to the precision in which images are stored."""
    fitted = replace(images, pixels=_fitted(images.pixels, attacked.pixels.shape[1:]))
    taken = set(_stored(attacked.pixels))
    fresh = [row for row, stored in enumerate(_stored(fitted.pixels)) if stored not in taken]
    return fitted.at(torch.tensor(fresh, dtype=torch.long))


def _fitted(pixels: Tensor, shape: torch.Size) -> Tensor:
    channels, height, width = shape
    if pixels.shape[1] != channels:
        luma = torch.tensor(_LUMA) if pixels.shape[1] == len(_LUMA) else torch.full((pixels.shape[1],), 1.0).softmax(0)
        pixels = torch.einsum("nchw,c->nhw", pixels, luma.to(pixels))[:, None].expand(-1, channels, -1, -1)
    if pixels.shape[2:] != (height, width):
        pixels = F.interpolate(pixels, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
    return pixels.clamp(0, 1)


def _stored(pixels: Tensor) -> list[bytes]:
    return [image.tobytes() for image in (pixels * 255).round().to(torch.uint8).numpy()]
