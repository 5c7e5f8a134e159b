"""Choosing images: some of them, or those of another data set that could stand beside the attacked ones."""

from dataclasses import replace

import torch
from torch import Generator, Tensor

from fedsplit.numerics.likeness import alike
from fedsplit.records.images import Images


def some(images: Images, count: int, rng: Generator) -> Images:
    """So many of them at random, in their order; or all."""
    return images.at(torch.randperm(len(images), generator=rng)[:count].sort().values)


def strangers(images: Images, attacked: Images) -> Images:
    """Another data set's images and classes, in the attacked ones' size and colours, without exact copies of any of
    these, to the precision in which images are stored."""
    channels, height, width = attacked.pixels.shape[1:]
    fitted = replace(images, pixels=alike(images.pixels, (channels, height, width)))
    taken = set(_stored(attacked.pixels))
    fresh = [row for row, stored in enumerate(_stored(fitted.pixels)) if stored not in taken]
    return fitted.at(torch.tensor(fresh, dtype=torch.long))


def _stored(pixels: Tensor) -> list[bytes]:
    return [image.tobytes() for image in (pixels * 255).round().to(torch.uint8).numpy()]
