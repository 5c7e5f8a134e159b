"""A small style-based generator (Karras, Laine and Aila, "A style-based generator architecture for generative
adversarial networks", CVPR 2019; its convolutions: Karras et al., "Analyzing and improving the image quality of
StyleGAN", CVPR 2020)."""

from typing import Annotated, ClassVar

from pydantic import Field, PositiveInt

from fedsplit.generators.base import AdversarialGenerator
from fedsplit.layers.style_synthesizer import StyleSynthesizer
from fedsplit.layers.synthesizer import Synthesizer
from fedsplit.records.images import Shape


class StyleGan(AdversarialGenerator):
    """Our own network of this design, for small images and few cores; it reads no published weights. Styles that are
    drawn towards their mean give images of less variety and fewer faults. Labels are not looked at."""

    momenta: ClassVar[tuple[float, float]] = (0.0, 0.99)

    styles: PositiveInt = 64
    """Width of a style."""
    mapping_depth: PositiveInt = 3
    """Layers of the network from latents to styles."""
    mixing: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the images that are made of two styles while it learns: the second from a level on that is drawn for
    each. Published with 0.9; what searches one style for all levels does not need it."""

    def network(self, shape: Shape, classes: int | None) -> Synthesizer:
        """An untrained one."""
        del classes
        return StyleSynthesizer(shape, self.latents, self.styles, self.mapping_depth, self.width, mixing=self.mixing)
