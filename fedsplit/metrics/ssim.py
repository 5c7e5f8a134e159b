"""Structural similarity (Wang, Bovik, Sheikh & Simoncelli 2004), as scikit-image defines it, for a batch at once."""

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from fedsplit.errors import EngineError
from fedsplit.layers.evaluator import Evaluator
from fedsplit.metrics.base import Measurement, Metric
from fedsplit.records.truth import Truth

_WINDOW = 7
_BATCH = 256
_LUMINANCE = 0.01**2
_CONTRAST = 0.03**2


class Ssim(Metric):
    """The mean over windows and channels of the product of luminance, contrast and structure terms, at most 1.

    The numbers are those of `skimage.metrics.structural_similarity` with its defaults and a data range of 1: a uniform
    window of 7 x 7 pixels wholly inside the image, sample covariances, channels apart. Smaller images get the largest
    odd window that fits. On blank backgrounds the structure term is ruled by very faint noise.
    """

    unit: ClassVar[str] = ""
    more_leaks: ClassVar[Literal["higher", "lower"]] = "higher"

    def measure(self, truth: Truth, guess: Tensor, evaluator: Evaluator | None) -> Measurement:
        """values: (targets,), in [-1, 1]. Raises EngineError for images of less than 3 x 3 pixels."""
        del evaluator
        side = min(truth.images.shape[-2:])
        window = min(_WINDOW, side - 1 + side % 2)
        if window < 3:
            size = tuple(truth.images.shape[-2:])
            raise EngineError("images are too small for a window", at="metrics.ssim", value=size, remedy="use psnr")
        batches = zip(truth.images.split(_BATCH), guess.split(_BATCH), strict=True)
        return Measurement(
            torch.cat([_similarity(first.double(), second.double(), window) for first, second in batches]).cpu()
        )


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
