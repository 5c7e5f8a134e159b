"""Synthetic radiograph-like images, seeded: for trying things out, and in place of data that is not there."""

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from fedsplit.datasets.base import Dataset, Stored
from fedsplit.numerics.phantoms import phantoms
from fedsplit.records.images import Shape
from fedsplit.seeding import Seeds

_SIDE = 28


class Phantoms(Dataset):
    """A class is an anatomy; an image is a body in a pose of its own, with lesions and texture that no other has."""

    count: PositiveInt = 3000
    """How many images there are, before `limit`."""
    channels: Annotated[int, Field(ge=1, le=4)] = 1
    """Colour channels, tints of the same body."""
    anatomies: Annotated[int, Field(ge=2, le=1000)] = 6
    """How many classes there are."""
    seed: NonNegativeInt = 0
    """Which bodies are drawn; the anatomies are the same for all seeds."""

    @property
    def title(self) -> str:
        """The set's own name."""
        return "synthetic phantoms"

    def stored_shape(self) -> Shape:
        """A square of `image_size`, or of 28: drawn at that size, never resized."""
        return (self.channels, self.image_size or _SIDE, self.image_size or _SIDE)

    def classes(self) -> int:
        """As many as there are anatomies."""
        return self.anatomies

    def read(self) -> Stored:
        """Draws them."""
        pixels, labels = phantoms(self.count, self.stored_shape(), self.anatomies, Seeds(self.seed)("phantoms"))
        rows = self.chosen(self.count)
        names = tuple(f"phantom {label}" for label in range(self.anatomies))
        return Stored((pixels[rows] * 255).round().byte(), labels[rows], names)
