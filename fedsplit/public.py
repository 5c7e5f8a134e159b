"""Which images everybody may see: what a defense learns from before round 1, or makes images like."""

from typing import Annotated

from pydantic import Field
from torch import Generator

from fedsplit.choice import some, strangers
from fedsplit.component import Settings
from fedsplit.datasets.base import AnyDataset
from fedsplit.errors import DataError
from fedsplit.records.images import Images


class PublicImages(Settings):
    """As it stands all rows of the role `public`, which no client holds: a sample of what the clients' are a sample
    of."""

    dataset: AnyDataset | None = None
    """Another data set, with its own labels, in the size and colours of the first one; the rows of the role are then
    nobody's. None: the rows of the role."""
    count: Annotated[int, Field(ge=2)] | None = None
    """How many, drawn at random; fewer than this are taken as they are. None: all that there are."""

    @property
    def title(self) -> str:
        """What sets them apart from the rows of the role, in words; empty where nothing does."""
        count = "" if self.count is None else f"{self.count:,} images"
        source = "" if self.dataset is None else f"of {self.dataset.title}"
        return " ".join(words for words in (count, source) if words)

    def choose(self, role: Images, everything: Images, other: Images | None, rng: Generator) -> Images:
        """role: the rows of the role. everything: the data set of the clients. other: all of `dataset`, where there is
        one; an exact copy of anything in the clients' data set is left out.

        Raises DataError where nothing is left of another data set.
        """
        public = role if other is None else strangers(other, everything)
        if self.dataset is not None and not len(public):
            remedy = "name one with images of its own"
            raise DataError(
                "has no image that is not in `dataset`, too",
                at="public.dataset",
                value=self.dataset.kind,
                remedy=remedy,
            )
        return public if self.count is None else some(public, self.count, rng)
