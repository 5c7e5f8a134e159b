"""Images of a model's classes, beyond those that a generator makes by itself: its features are moved, block after block
(Qiu, Fang, Yu, Chen, Qiu and Xia, "A closer look at GAN priors: exploiting intermediate features for enhanced model
inversion attacks", ECCV 2024)."""

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from fedsplit.attacks.image_search_base import ImageSearch
from fedsplit.layers.class_search import ClassSearch, Refined
from fedsplit.layers.feature_search import FeatureSearch
from fedsplit.records.images import Shape
from fedsplit.seeding import Seeds


class IntermediateFeatures(ImageSearch):
    """Finds styles as `plug_and_play` does. Then it moves the features behind the first block of the generator's
    synthesis, within an l1 ball about where they were, then those behind the second block within a larger ball, and so
    on; behind every block an image keeps what it was where that was nearer to its class, in crops that are the same for
    both. What is chosen at the end is chosen as there.

    The generator reaches images then that no style leads to: of classes unlike what it learned from, but also such as
    fool the model alone. The published radii are absolute, for features of StyleGAN; these are shares of the features'
    own l1 norm, so that generators of any size are moved alike. Styles stay where the first search left them.
    """

    blocks: PositiveInt = 4
    """Behind how many blocks of the synthesis features are moved, where it has so many before the last."""
    feature_steps: PositiveInt = 25
    """Of Adam behind each block, with moments of 0.1 and 0.1."""
    feature_rate: PositiveFloat = 0.005
    """Its learning rate, in units of the generator's features."""
    radius: NonNegativeFloat = 0.1
    """How far features may be moved behind the first block, in l1 and relative to their own l1 norm; twice as far
    behind the second, and so on."""

    def unfit(self, shape: Shape) -> str:
        """What its generator cannot make, and a generator whose synthesis is no chain of blocks."""
        if reason := self.generator.refuses(shape):
            return reason
        with Seeds(0).fork("blank"):
            blocks = self.generator.network(shape, None).blocks
        if len(blocks) < 2:
            generator = self.generator.title
            return f"moves features between the blocks of a synthesis, and that of {generator} is no chain of blocks"
        return ""

    def refined(self, search: ClassSearch, label: int, styles: Tensor, seeds: Seeds) -> Refined:
        """Their images, with features moved where that is for the better."""
        features = FeatureSearch(search, self.blocks, self.feature_steps, self.feature_rate, self.radius)
        return features.refined(label, styles, seeds)
