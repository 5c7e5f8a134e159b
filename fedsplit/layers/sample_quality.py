"""How far samples are from images that a generator has not learned from, by the statistics of a random network: strided
convolutions whose weights nobody trained tell strokes from noise well enough to choose between generators."""

import torch
from torch import Tensor, nn

from fedsplit.numerics.kernel_distance import kernel_distance

_WIDTHS = (32, 64, 64)
_SPREAD = 0.1
_FEW = 2


class SampleQuality:
    """Compares with held-out images, by the kernel distance of features that are standardised over these."""

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

    @torch.no_grad()
    def distance(self, samples: Tensor) -> float:
        """(n, channels, height, width) -> about 0 where they could be held-out images, more where they could not."""
        return kernel_distance(self._standardised(samples), self._held_out)

    def _standardised(self, images: Tensor) -> Tensor:
        return (self._network(images) - self._mean) / self._scale
