"""How far samples are from images that a generator has not learned from, in the features of a random network: strided
convolutions whose weights nobody trained tell strokes from noise well enough to choose between generators."""

import statistics
import sys

import torch
from torch import Tensor, nn

from fedsplit.numerics.chamfer_distance import chamfer_distance, mean_gap
from fedsplit.numerics.kernel_distance import kernel_distance

_WIDTHS = (32, 64, 64)
_SPREAD = 0.1
_FEW = 2
_REPEATED = 10


class SampleQuality:
    """Compares with held-out images, in features that are standardised over these: by the kernel distance, and by how
    much farther samples and held-out images are from the nearest of each other than held-out images among themselves.
    The first sees blur and missing kinds, the second pieces that are right and do not belong together."""

    def __init__(self, held_out: Tensor) -> None:
        """held_out: (n, channels, height, width) in [0, 1]. The weights come from torch's global generator."""
        channels = held_out.shape[1]
        layers: list[nn.Module] = []
        for width in _WIDTHS:
            layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
            channels = width
        layers += [nn.AdaptiveAvgPool2d(_FEW), nn.Flatten()]
        self._network = nn.Sequential(*layers).to(held_out).requires_grad_(False)
        features = self._network(held_out)
        self._mean = features.mean(dim=0)
        # A feature that hardly varies must not outweigh all others, as it would in units of its own deviation.
        deviation = features.std(dim=0)
        self._scale = deviation + _SPREAD * deviation.mean() + torch.finfo(deviation.dtype).tiny
        self._held_out = self._standardised(held_out)
        self._gap = mean_gap(self._held_out)

    @torch.no_grad()
    def distance(self, samples: Tensor) -> float:
        """(n, channels, height, width) -> about 0 where they could be held-out images, more where they could not."""
        return self._distance(self._standardised(samples))

    def _distance(self, features: Tensor) -> float:
        farther = chamfer_distance(features, self._held_out) / max(self._gap, sys.float_info.min) - 1
        return kernel_distance(features, self._held_out) + farther

    def of_one_image(self) -> float:
        """The distance of samples that are all one and the same held-out image: the median over some of them."""
        count = len(self._held_out)
        some = self._held_out[: min(_REPEATED, count)]
        return statistics.median(self._distance(one.expand(count, -1)) for one in some)

    def _standardised(self, images: Tensor) -> Tensor:
        return (self._network(images) - self._mean) / self._scale
