"""The contract of a data set: where images come from, before anybody owns them."""

from abc import abstractmethod
from pathlib import Path
from typing import Annotated

from pydantic import PositiveInt

from fedsplit.component import Component, Family
from fedsplit.records.images import Images, Shape


class Dataset(Component):
    """Images with labels, in [0, 1], without exact duplicates, near-duplicates grouped."""

    root: Path | None = None
    """The folder that holds the files; else the environment's FEDSPLIT_DATA, else fedsplit's folder in the user cache."""
    limit: PositiveInt | None = None
    """At most this many images, drawn at random but alike in every run."""

    @property
    @abstractmethod
    def title(self) -> str:
        """The set's own name, as in "synthetic stand-in, not <title>"."""

    @abstractmethod
    def shape(self) -> Shape:
        """(channels, height, width) of every image. May read a file's header; DataError where it cannot."""

    @abstractmethod
    def classes(self) -> int:
        """How many classes the labels have. May read a file's header; DataError where it cannot."""

    @abstractmethod
    def load(self) -> Images:
        """All images (or `limit` of them). DataError where files are missing, broken or of the wrong shape."""


DATASETS: Family[Dataset] = Family("datasets", Dataset)
AnyDataset = Annotated[Dataset, DATASETS]
