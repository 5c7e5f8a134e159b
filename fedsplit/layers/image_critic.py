"""A critic of whole images for the training of a generator: strided convolutions without normalisation (after Radford,
Metz and Chintala, ICLR 2016), and the deviation over the batch as one more map, so that samples which are all alike
give themselves away (Karras, Aila, Laine and Lehtinen, ICLR 2018)."""

import torch
from torch import Tensor, nn

from fedsplit.layers.pyramid import pyramid
from fedsplit.records.images import Shape

_SLOPE = 0.2
_LEAST_DEVIATION = 1e-8


class ImageCritic(nn.Module):
    """(n, channels, height, width) in [0, 1] -> (n,), logits of being real. It judges no labels."""

    def __init__(self, image: Shape, width: int) -> None:
        """width: maps at full size, twice as many at each half of it."""
        super().__init__()
        levels = pyramid(image, width)
        layers: list[nn.Module] = [nn.Conv2d(image[0], width, 3, padding=1), nn.LeakyReLU(_SLOPE)]
        for finer, coarser in zip(levels[::-1], levels[-2::-1], strict=False):
            layers += [nn.Conv2d(finer.width, coarser.width, 4, stride=2, padding=1), nn.LeakyReLU(_SLOPE)]
        self.body = nn.Sequential(*layers)
        last = levels[0].width
        self.joint = nn.Sequential(nn.Conv2d(last + 1, last, 3, padding=1), nn.LeakyReLU(_SLOPE))
        # Odd sides are rounded down on the way.
        side = tuple(max(1, length >> (len(levels) - 1)) for length in image[1:])
        self.head = nn.Linear(last * side[0] * side[1], 1)
        # In which convolutions of few channels are fastest.
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """See the class."""
        del labels
        maps = self.body(2 * images - 1)
        deviation = ((maps - maps.mean(dim=0)).square().mean(dim=0) + _LEAST_DEVIATION).sqrt().mean()
        maps = self.joint(torch.cat([maps, deviation.expand(len(maps), 1, *maps.shape[2:])], dim=1))
        return self.head(maps.flatten(1)).squeeze(1)
