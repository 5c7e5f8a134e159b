"""Uniform random numbers for a tensor, wherever the stream and the tensor are."""

import torch
from torch import Generator, Tensor


def uniform(like: Tensor, rng: Generator) -> Tensor:
    """From 0 to below 1, of the shape, the type and on the device of `like`; drawn on that of the stream."""
    return torch.rand(like.shape, generator=rng, device=rng.device, dtype=like.dtype).to(like.device)
