"""MedMNIST (Yang, Shi, Wei et al., Scientific Data 2023): any of its two-dimensional subsets, as published in `.npz`."""

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
        return (*self._images(self._pack(), "train").shape[1:],)  # pyright: ignore[reportReturnType]

    def filed_classes(self) -> int:
        """Told by the file."""
        pack = self._pack()
        return int(max(pack.array(f"{part}_labels").max() for part in _PARTS)) + 1

    def read_files(self) -> Stored:
        """Images and labels of all parts."""
        pack = self._pack()
        images = [self._images(pack, part) for part in _PARTS]
        labels = [pack.labels(f"{part}_labels", len(found)) for part, found in zip(_PARTS, images, strict=True)]
        rows = self.chosen(sum(map(len, images)))
        names = tuple(f"class {number}" for number in range(self.filed_classes()))
        return Stored(torch.cat(images)[rows], torch.cat(labels)[rows], names)

    def _pack(self) -> files.Pack:
        return files.Pack(self.find(f"{self.subset}.npz", f"medmnist/{self.subset}.npz"))

    def _images(self, pack: files.Pack, part: str) -> Tensor:
        pixels = pack.array(f"{part}_images")
        if pixels.dtype != np.uint8 or pixels.ndim not in {3, 4} or (pixels.ndim == 4 and pixels.shape[3] != 3):
            reason = f"{part}_images has the shape {pixels.shape} of {pixels.dtype}"
            raise DataError(reason, at=str(pack.path), remedy="use a subset of two-dimensional images")
        images = torch.from_numpy(pixels)
        return images[:, None] if images.dim() == 3 else images.permute(0, 3, 1, 2).contiguous()
