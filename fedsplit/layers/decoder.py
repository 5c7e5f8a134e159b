"""A network from smashed data back to images, for the training-based inversion of He, Zhang and Lee, "Model
inversion attacks against collaborative inference", ACSAC 2019."""

from math import prod

import torch
from torch import Tensor, nn

from fedsplit.layers.site_map import SiteMap

_NARROWER_ON_MAPS = 8
_NARROWER_CONTEXT = 4
_NARROWER_REFINEMENT = 8
_LARGEST_CONTEXT_INPUT = 50_000


class Decoder(nn.Module):
    """A linear map, plus what networks can add to it: (n, *cut) -> (n, *image).

    The linear path is not learned from nothing: it starts as the closed-form ridge of a `SiteMap`, and trains with
    the rest. Three networks add to it, all silent at first, so that an untrained decoder is that ridge, or the mean
    image where the ridge found nothing: `local`, at each site, for the client's non-linearity; `context`, a
    bottleneck from all smashed data to all pixels, for what sites know about each other; `refinement`, convolutions
    at half resolution, for what images look like. Beside the ridge something else may be known of the image; how much
    of it is believed, all of it at first, is learned, too.
    """

    scale: Tensor

    def __init__(self, start: SiteMap, scale: Tensor, width: int, depth: int) -> None:
        """scale: (), of the smashed data, divided away. width: hidden units of a row; maps of many sites get fewer.

        depth: hidden layers of the local network. Initial weights come from torch's global generator.
        """
        super().__init__()
        self.sites = start.sites
        cut, image = self.sites.cut, self.sites.image
        hidden = width if self.sites.count <= image[1] else max(1, width // _NARROWER_ON_MAPS)
        self.register_buffer("scale", scale)
        self.linear = nn.Linear(self.sites.features, self.sites.outputs, bias=False)
        self.local_input = nn.Linear(self.sites.features, hidden)
        self.local = nn.Sequential(
            nn.ReLU(), *_hidden(hidden, depth - 1), _silent(nn.Linear(hidden, self.sites.outputs))
        )
        self.context: nn.Module | None = None
        if self.sites.count > 1 and prod(cut) <= _LARGEST_CONTEXT_INPUT:
            bottleneck = max(1, width // _NARROWER_CONTEXT)
            last = _silent(nn.Linear(bottleneck, prod(image)))
            self.context = nn.Sequential(nn.Flatten(), nn.Linear(prod(cut), bottleneck), nn.ReLU(), last)
        self.refinement = Refinement(image[0], max(1, width // _NARROWER_REFINEMENT))
        self.belief = nn.Parameter(torch.ones(()))
        # What the map gives for smashed data of zero.
        self.bias = nn.Parameter(start.predict(torch.zeros_like(start.smashed_mean)))
        self.to(start.weight)
        with torch.no_grad():
            self.linear.weight.copy_(start.weight.T * scale)

    def forward(self, smashed: Tensor, known: Tensor | None = None) -> Tensor:
        """(n, *cut) -> (n, *image), not clamped. known: (n, *image), what else is to be added."""
        scaled = smashed / self.scale
        linear = self.sites.apply(scaled, self.linear.weight, None)
        local = self.local(self.sites.apply(scaled, self.local_input.weight, self.local_input.bias))
        images = self.sites.assemble(linear + local) + self.bias
        if self.context is not None:
            images = images + self.context(scaled).view_as(images)
        if known is not None:
            images = images + self.belief * known
        return images + self.refinement(images)


class Refinement(nn.Module):
    """A correction to an image by convolutions at half its resolution: (n, *image) -> (n, *image), zero at first."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, kernel_size=4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, kernel_size=3, padding=1),
            nn.ReLU(),
            _silent(nn.Conv2d(width, 4 * channels, kernel_size=3, padding=1)),
            nn.PixelShuffle(2),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Odd sides are padded to even ones, and the correction cropped."""
        height, width = images.shape[2:]
        even = nn.functional.pad(images, (0, width % 2, 0, height % 2))
        return self.layers(even)[:, :, :height, :width]


def _hidden(width: int, count: int) -> list[nn.Module]:
    return [layer for _ in range(count) for layer in (nn.Linear(width, width), nn.ReLU())]


def _silent(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
