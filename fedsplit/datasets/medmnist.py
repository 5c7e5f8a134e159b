"""MedMNIST (Yang, Shi, Wei et al., Scientific Data 2023): any of its two-dimensional subsets, published in `.npz`."""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fedsplit import files
from fedsplit.datasets.base import Filed, Stored
from fedsplit.errors import DataError
from fedsplit.records.images import Shape

_PARTS = ("train", "val", "test")


class MedMnist(Filed):
    """One subset; its training, validation and test images together, roles are drawn from all of them."""

    subset: Annotated[str, Field(pattern=r"^\w+$")]
    """The file's name without `.npz`, such as pathmnist or bloodmnist_64."""

    @property
    def title(self) -> str:
        """The set's own name."""
        return f"MedMNIST {self.subset}"

    def filed_shape(self) -> Shape:
        """Told by the file."""
        return self._told(self._pack(), "train")[1]

    def filed_classes(self) -> int:
        """Told by the file."""
        return 1 + int(self._labels(self._pack()).max())

    def read_files(self) -> Stored:
        """Images and labels of all parts."""
        pack = self._pack()
        images, labels = torch.cat([self._images(pack, part) for part in _PARTS]), self._labels(pack)
        rows = self.chosen(len(labels))
        names = tuple(f"class {number}" for number in range(1 + int(labels.max())))
        return Stored(images[rows], labels[rows], names)

    def _pack(self) -> files.Pack:
        return files.Pack(self.find(f"{self.subset}.npz", f"medmnist/{self.subset}.npz"))

    def _told(self, pack: files.Pack, part: str) -> tuple[int, Shape]:
        """How many images of which shape the header tells of."""
        shape = pack.shape(f"{part}_images")
        count, height, width, channels = (*shape, 1) if len(shape) == 3 else (*shape, 0, 0, 0, 0)[:4]
        if channels not in {1, 3} or len(shape) > 4:
            reason = f"{part}_images has the shape {shape}"
            raise DataError(reason, at=str(pack.path), remedy="use a subset of two-dimensional images")
        return count, (channels, height, width)

    def _labels(self, pack: files.Pack) -> Tensor:
        counts = [self._told(pack, part)[0] for part in _PARTS]
        # No name bounds the labels here; more classes than images there cannot be.
        labels = [pack.labels(f"{part}_labels", count, sum(counts)) for part, count in zip(_PARTS, counts, strict=True)]
        return torch.cat(labels)

    def _images(self, pack: files.Pack, part: str) -> Tensor:
        count, shape = self._told(pack, part)
        pixels = pack.array(f"{part}_images")
        if pixels.dtype != np.uint8 or shape != self._told(pack, "train")[1]:
            reason = f"{part}_images has the shape {pixels.shape} of {pixels.dtype}"
            raise DataError(reason, at=str(pack.path), remedy="it is broken or of another kind: get it again")
        return torch.from_numpy(pixels.reshape(count, *shape[1:], shape[0])).permute(0, 3, 1, 2)
