"""A generator and its critic of dense layers, both told the class: the label's embedding is one more part of what they
are shown (Mirza and Osindero, "Conditional generative adversarial nets", 2014)."""

import math
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from fedsplit.layers.synthesizer import Block, ChainedSynthesizer, Stage
from fedsplit.records.images import Shape

_SLOPE = 0.2
_DROPOUT = 0.3
_LAYER = _ENDING = 2
"""Modules of a hidden layer, and of the last one, of a generator."""


class DenseSynthesizer(ChainedSynthesizer):
    """A style is the latent and the embedding of its class; without classes it is the latent."""

    def __init__(self, image: Shape, latents: int, widths: tuple[int, ...], classes: int | None) -> None:
        """widths: hidden units, layer by layer. An embedding is as wide as there are classes."""
        super().__init__(latents, latents + (classes or 0), classes)
        self.embedding = None if classes is None else nn.Embedding(classes, classes)
        layers = _dense((latents + (classes or 0), *widths))
        self.network = nn.Sequential(*layers, nn.Linear(widths[-1], math.prod(image)), nn.Sigmoid())
        self._image = image

    def mapping(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """(n, latents), (n,) -> (n, latents + classes)."""
        return _joined(latents, labels, self.embedding)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """A layer each, and then the image."""
        hidden = range(0, len(self.network) - _ENDING, _LAYER)
        return (*(partial(self._wider, slice(start, start + _LAYER)) for start in hidden), self._made)

    def _wider(self, part: slice, stage: Stage, styles: Tensor) -> Stage:
        del styles
        return Stage(self.network[part](stage.features))

    def _made(self, stage: Stage, styles: Tensor) -> Stage:
        del styles
        return Stage(self.network[-_ENDING:](stage.features).unflatten(1, self._image))


class DenseCritic(nn.Module):
    """(n, *image), and (n,) where there are classes -> (n,), logits of being real and of that class."""

    def __init__(self, image: Shape, widths: tuple[int, ...], classes: int | None) -> None:
        """widths: hidden units, layer by layer."""
        super().__init__()
        self.embedding = None if classes is None else nn.Embedding(classes, classes)
        layers = _dense((math.prod(image) + (classes or 0), *widths), _DROPOUT)
        self.network = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """See the class."""
        return self.network(_joined(2 * images.flatten(1) - 1, labels, self.embedding)).squeeze(1)


def _dense(widths: tuple[int, ...], dropout: float = 0.0) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for incoming, outgoing in pairwise(widths):
        layers += [nn.Linear(incoming, outgoing), nn.LeakyReLU(_SLOPE)]
        layers += [nn.Dropout(dropout)] if dropout else []
    return layers


def _joined(values: Tensor, labels: Tensor | None, embedding: nn.Embedding | None) -> Tensor:
    if embedding is None:
        return values
    assert labels is not None, "who was trained with labels is asked with labels"
    return torch.cat([values, embedding(labels)], dim=1)
