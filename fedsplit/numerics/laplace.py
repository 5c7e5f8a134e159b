"""Laplace random numbers for a tensor, wherever the stream and the tensor are."""

import torch
from torch import Generator, Tensor

from fedsplit.numerics.uniform import uniform


def laplace(like: Tensor, rng: Generator) -> Tensor:
    """Of mean zero and scale one (standard deviation the root of 2), in the shape, the type and on the device of
    `like`."""
    drawn = uniform(like, rng) - 0.5
    # The inverse distribution function; clamped since the generator's half-open interval holds -1/2 itself.
    magnitude = -torch.log1p(-2 * drawn.abs().clamp(max=0.5 - torch.finfo(like.dtype).eps))
    return drawn.sign() * magnitude
