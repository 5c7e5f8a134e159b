"""The contract of a data set, and the way that all images go: read, choose, drop copies, group, resize."""

import hashlib
import os
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from fedsplit import files
from fedsplit.cache import user_cache
from fedsplit.component import Component, Family
from fedsplit.errors import DataError
from fedsplit.numerics.near_duplicates import near_duplicate_groups, united_groups
from fedsplit.numerics.phantoms import phantoms
from fedsplit.records.images import Images, Shape
from fedsplit.seeding import Seeds

_CHOICE = Seeds(0).child("datasets")
"""Which images are chosen by `limit` is a property of the data, not of an experiment's seed."""
_CANDIDATES_SHOWN = 4


@dataclass(frozen=True)
class Stored:
    """Images as read. pixels: (n, channels, height, width) uint8. labels: (n,) int64. owners: (n,) or None, rows that
    must not be parted although they look different (one person)."""

    pixels: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    owners: Tensor | None = None


class Dataset(Component):
    """Images with labels, in [0, 1], without exact copies; near-duplicates share a group."""

    image_size: Annotated[int, Field(ge=4, le=1024)] | None = None
    """Height and width to which images are resized, bilinear with antialiasing; None: as stored."""
    limit: PositiveInt | None = None
    """At most this many images, drawn at random but alike in every run, before copies are dropped."""
    near_duplicates: PositiveFloat | None = None
    """Two images of a class go to the same role when their standardised thumbnails are closer than this (root mean
    square; images with nothing in common: 1.4). None: every image stands for itself."""

    @property
    @abstractmethod
    def title(self) -> str:
        """The set's own name, as in "synthetic stand-in, not <title>"."""

    @abstractmethod
    def stored_shape(self) -> Shape:
        """(channels, height, width) before resizing. May read a file's header; DataError where it cannot."""

    @abstractmethod
    def classes(self) -> int:
        """How many classes the labels have. May read a file's header; DataError where it cannot."""

    @abstractmethod
    def read(self) -> Stored:
        """The images, or those that `chosen` picks. DataError where files are missing, broken or of a wrong shape."""

    def shape(self) -> Shape:
        """(channels, height, width) of every image that `load` returns."""
        channels, height, width = self.stored_shape()
        return (channels, self.image_size or height, self.image_size or width)

    def load(self) -> Images:
        """All images, or `limit` of them. DataError where files are missing, broken or of a wrong shape."""
        stored = self.read()
        _check(self, stored)
        kept = _distinct(stored.pixels)
        pixels, labels = stored.pixels[kept].float().div_(255), stored.labels[kept]
        owners = torch.arange(len(kept)) if stored.owners is None else stored.owners[kept]
        if self.near_duplicates is not None:
            owners = united_groups(owners, near_duplicate_groups(pixels, labels, self.near_duplicates))
        shape = self.shape()
        if pixels.shape[1:] != shape:
            pixels = F.interpolate(pixels, size=shape[1:], mode="bilinear", antialias=True, align_corners=False)
        return Images(pixels.clamp_(0, 1), labels, owners, stored.class_names, len(stored.labels) - len(kept))

    def chosen(self, count: int) -> Tensor:
        """Of `count` images, the rows that `limit` picks, ascending."""
        if self.limit is None or self.limit >= count:
            return torch.arange(count)
        return torch.randperm(count, generator=_CHOICE(self.kind, count))[: self.limit].sort().values


class MissingError(DataError):
    """There are no files, as against files that are broken: only then a stand-in may step in."""


class Filed(Dataset):
    """A data set that lies in files. Abstract as `Dataset` is: it only adds where the files are looked for."""

    root: Path | None = None
    """Where the files are. None: the environment's FEDSPLIT_DATA, else fedsplit's folder in the user cache."""
    stand_in: Literal["phantoms"] | None = None
    """What to go on with where the files cannot be found; every output then says so. None: that is an error."""

    @abstractmethod
    def read_files(self) -> Stored:
        """`read` where the files are there; raises MissingError (see `find`) where they are not."""

    @abstractmethod
    def filed_shape(self) -> Shape:
        """`stored_shape` where the files are there; MissingError where that cannot be told without them."""

    @abstractmethod
    def filed_classes(self) -> int:
        """`classes` where the files are there; MissingError where that cannot be told without them."""

    def read(self) -> Stored:
        """The images in the files."""
        return self.read_files()

    def stored_shape(self) -> Shape:
        """(channels, height, width) before resizing, of the stand-in where one steps in."""
        try:
            return self.filed_shape()
        except MissingError:
            if self.stand_in is None:
                raise
            return (1, 28, 28)

    def classes(self) -> int:
        """How many classes the labels have, of the stand-in where one steps in."""
        try:
            return self.filed_classes()
        except MissingError:
            if self.stand_in is None:
                raise
            return 6

    def load(self) -> Images:
        """The files' images; where there are none and `stand_in` is set, as many phantoms of the same shape."""
        try:
            return Dataset.load(self)
        except MissingError:
            if self.stand_in is None:
                raise
        pixels, labels = phantoms(self.limit or 12_000, self.shape(), self.classes(), _CHOICE("stand_in", self.title))
        names = tuple(f"phantom {label}" for label in range(self.classes()))
        _check_labels(self, labels, names)
        notice = f"synthetic stand-in, not {self.title}"
        return Images(pixels, labels, torch.arange(len(labels)), names, notice=notice)

    @property
    def folder(self) -> Path:
        """Where the files are looked for."""
        return (self.root or Path(os.environ.get("FEDSPLIT_DATA") or user_cache())).expanduser()

    def find(self, *candidates: str, fetch: Callable[..., object] | None = None) -> Path:
        """The first of these that exists below `folder`; torchvision's `fetch` is asked for them where none does.

        Raises MissingError where that does not help.
        """
        for candidate in candidates:
            path = self.folder / candidate
            with files.reading(path):
                if path.exists():
                    return path
        if fetch is not None:
            files.download(fetch, self.folder)
            return self.find(*candidates)
        looked = ", ".join(candidates[:_CANDIDATES_SHOWN]) + (", ..." if len(candidates) > _CANDIDATES_SHOWN else "")
        remedy = "set root: or the environment's FEDSPLIT_DATA to the folder that holds it, or stand_in: phantoms"
        raise MissingError(f"{self.title} is not there (looked for {looked})", at=str(self.folder), remedy=remedy)


def _check(dataset: Dataset, stored: Stored) -> None:
    at = f"dataset ({dataset.kind})"
    if tuple(stored.pixels.shape[1:]) != dataset.stored_shape():
        found, expected = tuple(stored.pixels.shape[1:]), dataset.stored_shape()
        raise DataError(f"images of shape {found} instead of {expected}", at=at, remedy="these are other files")
    _check_labels(dataset, stored.labels, stored.class_names)


def _check_labels(dataset: Dataset, labels: Tensor, names: tuple[str, ...]) -> None:
    at = f"dataset ({dataset.kind})"
    if len(names) != dataset.classes():
        reason = f"{len(names)} classes instead of {dataset.classes()}"
        raise DataError(reason, at=at, value=names, remedy="these are other files")
    wrong = labels[(labels < 0) | (labels >= len(names))]
    if len(wrong):
        raise DataError("a label has no class", at=at, value=int(wrong[0]), remedy="these are other files")
    counts = torch.bincount(labels, minlength=len(names))
    if int(counts.min()) == 0:
        remedy = "use a larger limit" if dataset.limit else "get images of it, or leave the class out"
        raise DataError("this class has no image", at=at, value=names[int(counts.argmin())], remedy=remedy)


def _distinct(pixels: Tensor) -> Tensor:
    """The first row of every different image, ascending."""
    first: dict[bytes, int] = {}
    for row, image in enumerate(pixels.numpy()):
        first.setdefault(hashlib.blake2b(image.tobytes(), digest_size=16).digest(), row)
    return torch.tensor(list(first.values()), dtype=torch.long)


DATASETS: Family[Dataset] = Family("datasets", Dataset)
AnyDataset = Annotated[Dataset, DATASETS]
