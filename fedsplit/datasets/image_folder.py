"""Any folder of images with one folder per class."""

from pathlib import Path
from typing import Literal

import torch

from fedsplit import files
from fedsplit.datasets.base import Filed, Stored
from fedsplit.errors import DataError
from fedsplit.records.images import Shape


class ImageFolder(Filed):
    """Classes are the folders in alphabetical order. Images of different sizes need `image_size`."""

    folder_name: str = "."
    """The folder that holds the classes, below `root`."""
    colour: Literal["grey", "rgb"] = "rgb"
    """What images are converted to."""

    @property
    def title(self) -> str:
        """The folder's own name."""
        return f"the images in {self.folder_name}"

    def filed_shape(self) -> Shape:
        """Told by the first image, or by `image_size`."""
        first = next(path for paths in self._classes().values() for path in paths)
        height, width = (self.image_size, self.image_size) if self.image_size else files.size_of(first)
        return (1 if self.colour == "grey" else 3, height, width)

    def filed_classes(self) -> int:
        """How many folders there are."""
        return len(self._classes())

    def read_files(self) -> Stored:
        """Every image that has a usual ending."""
        found = self._classes()
        listed = [(path, label) for label, paths in enumerate(found.values()) for path in paths]
        rows = self.chosen(len(listed)).tolist()
        mode = "L" if self.colour == "grey" else "RGB"
        pixels = files.read_images([listed[row][0] for row in rows], mode, self.image_size)
        return Stored(pixels, torch.tensor([listed[row][1] for row in rows]), tuple(found))

    def _classes(self) -> dict[str, tuple[Path, ...]]:
        root = self.find(self.folder_name)
        found = files.class_folders(root)
        empty = next((name for name, paths in found.items() if not paths), None)
        if empty is not None:
            raise DataError("this class has no image", at=str(root / empty), remedy="put images there, or remove it")
        if len(found) < 2:
            raise DataError(f"holds {len(found)} classes", at=str(root), remedy="make one folder per class")
        return found
