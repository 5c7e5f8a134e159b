"""Linear maps of planes that do the same at all places, on a plane closed to a torus: between its channels they are a
matrix at each frequency (T. Chan, "An optimal circulant preconditioner for Toeplitz systems", SIAM J. Sci. Stat.
Computing 1988)."""

from collections.abc import Callable

import torch
from torch import Tensor

from fedsplit.records.images import Shape

_LEAST = 1e-9
"""Of an eigenvalue that is inverted, relative to the largest of all."""


def filtered(planes: Tensor, symbol: Tensor) -> Tensor:
    """What a map makes of planes: (n, channels, height, width) and (height, width // 2 + 1, channels, channels), of
    any complex dtype -> (n, channels, height, width)."""
    # A copy in the order of the product: without it that takes five times as long.
    waves = torch.fft.rfft2(planes).permute(2, 3, 1, 0).contiguous()
    made = (symbol.to(waves.dtype) @ waves).permute(3, 2, 0, 1)
    # The way back takes half as long from channels that lie together.
    return torch.fft.irfft2(made.contiguous(memory_format=torch.channels_last), s=planes.shape[-2:])


def symbol_of(operator: Callable[[Tensor], Tensor], planes: Shape, like: Tensor) -> Tensor:
    """A symbol, of whatever the operator does in the middle of the plane: as if it did so at all places.

    operator: (n, channels, height, width) -> the same. planes: (channels, height, width). like: of whose dtype.
    """
    channels, height, width = planes
    middle = (height // 2, width // 2)
    impulses = torch.zeros(channels, *planes, dtype=like.dtype, device=like.device)
    each = torch.arange(channels, device=like.device)
    impulses[each, each, middle[0], middle[1]] = 1
    answers = operator(impulses).roll((-middle[0], -middle[1]), dims=(2, 3))
    return torch.fft.rfft2(answers).permute(2, 3, 1, 0)


def inverted(symbol: Tensor) -> Tensor:
    """Of the symbol of a positive definite map, whose inverse then is one, too; rounding may have spoilt either."""
    values, axes = torch.linalg.eigh((symbol + symbol.mH) / 2)
    inverse = 1 / values.clamp(min=_LEAST * float(values.max().clamp(min=torch.finfo(values.dtype).tiny)))
    return (axes * inverse[..., None, :]) @ axes.mH
