"""Labeled Faces in the Wild (Huang, Ramesh, Berg, Learned-Miller 2007), cropped to the face (Sanderson,
Lovell 2009)."""

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor

from fedsplit import files
from fedsplit.datasets.base import Filed, Stored
from fedsplit.errors import DataError
from fedsplit.records.images import Shape


class Lfw(Filed):
    """Press photographs of people; the class is the person.

    From `lfwcrop_64.npz` (64 x 64 colour), or a folder of images per person.
    """

    minimum_images: PositiveInt = 10
    """People with fewer images are left out."""
    maximum_images: PositiveInt | None = None
    """So are people with more, None: nobody. One scenario may then name two data sets without a person in common."""

    @model_validator(mode="after")
    def _somebody(self) -> "Lfw":
        if self.maximum_images is not None and self.maximum_images < self.minimum_images:
            raise ValueError(f"`maximum_images` is below `minimum_images`, {self.minimum_images}")
        return self

    @property
    def title(self) -> str:
        """The set's own name, and who is left out for having many images."""
        return "LFW" if self.maximum_images is None else f"LFW, people of at most {self.maximum_images} images"

    def filed_shape(self) -> Shape:
        """64 x 64 colour where packed, else told by the first image."""
        found = self._found()
        if isinstance(found, files.Pack):
            return (3, 64, 64)
        first = next(path for paths in found.values() for path in paths)
        return (3, self.image_size, self.image_size) if self.image_size else (3, *files.size_of(first))

    def filed_classes(self) -> int:
        """How many people have enough images."""
        found = self._found()
        return len(self._kept(found)[1]) if isinstance(found, files.Pack) else len(found)

    def read_files(self) -> Stored:
        """The people with enough images, by name."""
        found = self._found()
        if isinstance(found, files.Pack):
            rows, names, labels = self._kept(found)
            chosen = self.chosen(len(rows))
            return Stored(found.jpegs(rows[chosen], "RGB"), labels[chosen], names)
        listed = [(path, label) for label, paths in enumerate(found.values()) for path in paths]
        chosen = self.chosen(len(listed)).tolist()
        pixels = files.read_images([listed[row][0] for row in chosen], "RGB", self.image_size)
        return Stored(pixels, torch.tensor([listed[row][1] for row in chosen]), tuple(found))

    def _found(self) -> "files.Pack | dict[str, tuple[files.Path, ...]]":
        path = self.find("lfwcrop_64.npz", "lfw", "lfwcrop")
        if path.is_file():
            return files.Pack(path)
        people = {name: paths for name, paths in files.class_folders(path).items() if self._wants(len(paths))}
        if not people:
            raise self._nobody(path)
        return people

    def _kept(self, pack: files.Pack) -> tuple[Tensor, tuple[str, ...], Tensor]:
        """(rows, names, labels) of people with enough images."""
        names = [str(name) for name in pack.array("identity_names")]
        identities = pack.labels("identity", pack.jpeg_count(), len(names))
        counts = torch.bincount(identities).tolist()
        people = torch.tensor([person for person, count in enumerate(counts) if self._wants(count)], dtype=torch.long)
        if not len(people):
            raise self._nobody(pack.path)
        rows = torch.isin(identities, people).nonzero().flatten()
        return rows, tuple(names[person] for person in people.tolist()), torch.searchsorted(people, identities[rows])

    def _wants(self, count: int) -> bool:
        return self.minimum_images <= count and (self.maximum_images is None or count <= self.maximum_images)

    def _nobody(self, path: files.Path) -> DataError:
        most = "" if self.maximum_images is None else f", and at most {self.maximum_images}"
        return DataError(f"nobody has {self.minimum_images} images{most}", at=str(path), remedy="lower minimum_images")
