"""Structural similarity (Wang, Bovik, Sheikh & Simoncelli 2004), as scikit-image defines it, for a batch at once."""

import torch
from torch import Tensor
from torch.nn import functional

from fedsplit.errors import EngineError

_WINDOW = 7
_BATCH = 256
_LUMINANCE = 0.01**2
_CONTRAST = 0.03**2


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """(n, channels, height, width), the same -> (n,), in [-1, 1], float64.

    The mean over windows and channels of luminance times contrast and structure. The window is uniform, of 7 x 7 pixels
    or the largest odd side that fits; the data range is 1. Raises EngineError for images of less than 3 x 3 pixels.
    """
    height, width = first.shape[-2:]
    side = min(height, width)
    window = min(_WINDOW, side - 1 + side % 2)
    if window < 3:
        raise EngineError(
            "images are too small for a window of structural similarity",
            at="metrics",
            value=(height, width),
            remedy="use psnr or psnr_affine",
        )
    batches = zip(first.split(_BATCH), second.split(_BATCH), strict=True)
    return torch.cat([_similarity(one.double(), other.double(), window) for one, other in batches])


def _similarity(first: Tensor, second: Tensor, window: int) -> Tensor:
    first_mean, second_mean = _window_mean(first, window), _window_mean(second, window)
    unbiased = window**2 / (window**2 - 1)
    first_variance = unbiased * (_window_mean(first * first, window) - first_mean**2)
    second_variance = unbiased * (_window_mean(second * second, window) - second_mean**2)
    covariance = unbiased * (_window_mean(first * second, window) - first_mean * second_mean)
    luminance = (2 * first_mean * second_mean + _LUMINANCE) / (first_mean**2 + second_mean**2 + _LUMINANCE)
    structure = (2 * covariance + _CONTRAST) / (first_variance + second_variance + _CONTRAST)
    return (luminance * structure).flatten(1).mean(1)


def _window_mean(images: Tensor, window: int) -> Tensor:
    columns = functional.avg_pool2d(images, (window, 1), stride=1)
    return functional.avg_pool2d(columns, (1, window), stride=1)
