"""Images of a model's classes, found among those that a generator can make (Struppek, Hintersdorf, De Almeida Correia,
Adler and Kersting, "Plug & Play attacks: towards robust and flexible model inversion attacks", ICML 2022)."""

from torch import Tensor

from fedsplit.attacks.image_search_base import ImageSearch
from fedsplit.layers.class_search import ClassSearch, Refined
from fedsplit.seeding import Seeds


class PlugAndPlay(ImageSearch):
    """A generator learns from the attacker's own images, unlabelled; among its images those of a class are looked for.

    In four stages. Of many samples of the generator, those that the model takes for the class are where the search
    starts; their styles are moved until random crops of their images lie near the class; of what is found, the images
    stay that the model takes for the class in many random views, since what fools it alone does so from one. Where the
    model only answers, a student of its answers gives the gradients, and the model itself chooses.

    Random samples of the generator are the anchor to beat. Crops are published for images of 224 pixels; these are
    shares of the image, whatever its size.
    """

    def refined(self, search: ClassSearch, label: int, styles: Tensor, seeds: Seeds) -> Refined:
        """The images that they make."""
        del label, seeds
        return Refined(search.images(styles))
