"""The least-squares affine map of each image's intensities onto another image."""

import torch
from torch import Tensor

_BATCH = 256


def affine_fit(images: Tensor, targets: Tensor) -> Tensor:
    """(n, ...), (n, ...) -> (n, ...), in float64: a * image + b with the a and b that fit the targets best.

    One a, of either sign, and one b per image, over all that it holds. The mean squared residual is the target's
    variance times 1 - r^2, with r their correlation. Where the image is constant, a is 0 and b the target's mean.
    """
    batches = zip(images.split(_BATCH), targets.split(_BATCH), strict=True)
    fitted = [_fit(some.double().flatten(1), wanted.double().flatten(1)) for some, wanted in batches]
    return torch.cat(fitted).reshape(targets.shape)


def _fit(rows: Tensor, wanted: Tensor) -> Tensor:
    # Relative to its own first pixel, a constant image is zero without rounding: no threshold says what is constant.
    shifted = rows - rows[:, :1]
    largest = shifted.abs().amax(1, keepdim=True)
    constant = largest == 0
    # Scaled to 1, since the square of a very faint image would be lost.
    scaled = shifted / largest.masked_fill(constant, 1)
    centred = scaled - scaled.mean(1, keepdim=True)
    mean = wanted.mean(1, keepdim=True)
    scatter = centred.square().sum(1, keepdim=True).masked_fill(constant, 1)
    slope = (centred * (wanted - mean)).sum(1, keepdim=True) / scatter
    return slope * centred + mean
