"""Dictionaries of every small shape, with codes and images that fit them."""

import torch
from hypothesis import strategies
from torch import Generator, Tensor

from fedsplit.numerics.dictionary import Dictionary, normalised
from fedsplit.seeding import Seeds


def normal(*shape: int, rng: Generator, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=rng, dtype=dtype)


@strategies.composite
def dictionaries(draw: strategies.DrawFn, longest_stride: int = 3) -> Dictionary:
    whole = strategies.integers
    kernel = draw(whole(1, 6))
    rng = Seeds(draw(whole(0, 1000)))("atoms")
    atoms = normal(draw(whole(1, 3)), draw(whole(1, 3)), kernel, kernel, rng=rng)
    size = (draw(whole(kernel, 10)), draw(whole(kernel, 10)))
    return Dictionary(normalised(atoms), size, draw(whole(1, longest_stride)), draw(whole(0, kernel // 2)))


def codes_and_images(dictionary: Dictionary) -> tuple[Tensor, Tensor]:
    rng = Seeds(1)("codes and images")
    channels = dictionary.atoms.shape[1]
    return normal(2, *dictionary.codes, rng=rng), normal(2, channels, *dictionary.size, rng=rng)
