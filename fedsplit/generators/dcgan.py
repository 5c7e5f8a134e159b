"""A generator of transposed convolutions (Radford, Metz and Chintala, "Unsupervised representation learning with deep
convolutional generative adversarial networks", ICLR 2016)."""

from typing import ClassVar

from pydantic import PositiveInt

from fedsplit.generators.base import AdversarialGenerator
from fedsplit.layers.synthesizer import Synthesizer
from fedsplit.layers.transposed_synthesizer import TransposedSynthesizer
from fedsplit.records.images import Shape


class ConvolutionalGan(AdversarialGenerator):
    """Doubles coarse maps until they are an image, each place of a map normalised by itself. A style is the latent
    itself; labels are not looked at."""

    momenta: ClassVar[tuple[float, float]] = (0.5, 0.99)

    steps: PositiveInt = 4000
    """Of the generator, at most."""

    def network(self, shape: Shape, classes: int | None) -> Synthesizer:
        """An untrained one."""
        del classes
        return TransposedSynthesizer(shape, self.latents, self.width)
