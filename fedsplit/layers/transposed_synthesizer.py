"""The generator of transposed convolutions (Radford, Metz and Chintala, "Unsupervised representation learning with deep
convolutional generative adversarial networks", ICLR 2016), normalised place by place instead of over the batch (Karras,
Aila, Laine and Lehtinen, ICLR 2018): a sample depends on no other one, and mean weights need no statistics."""

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from fedsplit.layers.pyramid import pyramid
from fedsplit.layers.synthesizer import Block, ChainedSynthesizer, Stage
from fedsplit.records.images import Shape

_SLOPE = 0.2
_SMALL = 1e-8


class TransposedSynthesizer(ChainedSynthesizer):
    """A linear map gives coarse maps, and each transposed convolution doubles their size. A style is a latent."""

    def __init__(self, image: Shape, latents: int, width: int) -> None:
        """width: channels at full size, twice as many at each half of it."""
        super().__init__(latents, latents)
        first, *finer = pyramid(image, width)
        coarse = first.width * first.height * first.breadth
        layers: list[nn.Module] = [
            nn.Linear(latents, coarse),
            nn.Unflatten(1, (first.width, first.height, first.breadth)),
            _Normalised(),
            nn.LeakyReLU(_SLOPE),
        ]
        before = first
        self._ends = [len(layers)]
        for level in finer:
            layers += [nn.ConvTranspose2d(before.width, level.width, 4, stride=2, padding=1)]
            layers += [_Normalised(), nn.LeakyReLU(_SLOPE)]
            before = level
            self._ends.append(len(layers))
        layers += [nn.Conv2d(before.width, image[0], 3, padding=1), nn.Sigmoid()]
        self.network = nn.Sequential(*layers)
        self._size = image[1:]
        # In which convolutions of few channels are fastest.
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def mapping(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """(n, latents), as they are."""
        del labels
        return latents

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Maps of every size, and then the image."""
        parts = pairwise((0, *self._ends))
        return (*(partial(self._finer, slice(*part)) for part in parts), self._image)

    def _finer(self, part: slice, stage: Stage, styles: Tensor) -> Stage:
        del styles
        return Stage(self.network[part](stage.features))

    def _image(self, stage: Stage, styles: Tensor) -> Stage:
        del styles
        return Stage(self.network[self._ends[-1] :](stage.features)[:, :, : self._size[0], : self._size[1]])


class _Normalised(nn.Module):
    """Channels of unit mean square at every place."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps * (maps.square().mean(dim=1, keepdim=True) + _SMALL).rsqrt()
