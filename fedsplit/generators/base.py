"""The contract of an image generator: images in, a network that makes more of their kind out."""

from abc import abstractmethod
from typing import Annotated

from torch import Tensor

from fedsplit.component import Component, Family
from fedsplit.layers.synthesizer import Progress, Synthesizer, Tell, nothing
from fedsplit.records.images import Shape
from fedsplit.seeding import Seeds

__all__ = ["GENERATORS", "AnyGenerator", "ImageGenerator", "Progress", "Synthesizer", "fitted"]


class ImageGenerator(Component):
    """Learns what images look like. A prior of an attack never learns from private rows; a defense's learns from its
    own client's alone, and never leaves it."""

    def refuses(self, shape: Shape) -> str:
        """Why it cannot make images of this shape, in half a sentence; or nothing. Asked before any compute."""
        del shape
        return ""

    @abstractmethod
    def network(self, shape: Shape, classes: int | None) -> Synthesizer:
        """An untrained one; its initial weights come from torch's global generator. classes: of the labels it learns
        with, None where there are none."""

    @abstractmethod
    def fit(self, images: Tensor, labels: Tensor | None, seeds: Seeds, tell: Tell = nothing) -> Synthesizer:
        """images: (n, channels, height, width) in [0, 1]. labels: (n,), for those that take them. What is returned is
        in evaluation mode and learns no more."""


def fitted(
    generator: ImageGenerator, images: Tensor, labels: Tensor | None, seeds: Seeds, tell: Tell = nothing
) -> Synthesizer:
    """What the generator learns from these images."""
    return generator.fit(images, labels, seeds, tell)


GENERATORS: Family[ImageGenerator] = Family("generators", ImageGenerator)
AnyGenerator = Annotated[ImageGenerator, GENERATORS]
