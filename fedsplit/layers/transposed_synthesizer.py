"""The generator of transposed convolutions (Radford, Metz and Chintala, "Unsupervised representation learning with deep
convolutional generative adversarial networks", ICLR 2016)."""

import torch
from torch import Tensor, nn

from fedsplit.layers.pyramid import pyramid
from fedsplit.layers.synthesizer import Synthesizer
from fedsplit.records.images import Shape


class TransposedSynthesizer(Synthesizer):
    """A linear map gives coarse maps, and each transposed convolution doubles their size. A style is a latent."""

    def __init__(self, image: Shape, latents: int, width: int) -> None:
        """width: channels at full size, twice as many at each half of it."""
        super().__init__(latents, latents)
        first, *finer = pyramid(image, width)
        coarse = first.width * first.height * first.breadth
        layers: list[nn.Module] = [
            nn.Linear(latents, coarse, bias=False),
            nn.Unflatten(1, (first.width, first.height, first.breadth)),
            nn.BatchNorm2d(first.width),
            nn.ReLU(),
        ]
        before = first
        for level in finer:
            layers += [nn.ConvTranspose2d(before.width, level.width, 4, stride=2, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(level.width), nn.ReLU()]
            before = level
        layers += [nn.Conv2d(before.width, image[0], 3, padding=1), nn.Sigmoid()]
        self.network = nn.Sequential(*layers)
        self._size = image[1:]
        # In which convolutions of few channels are fastest.
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def mapping(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """(n, latents), as they are."""
        del labels
        return latents

    def synthesis(self, styles: Tensor) -> Tensor:
        """(n, latents) -> (n, *image)."""
        return self.network(styles)[:, :, : self._size[0], : self._size[1]]
