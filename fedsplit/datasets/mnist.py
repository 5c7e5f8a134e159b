"""MNIST (LeCun, Cortes, Burges 1998): handwritten digits."""

import torch
import torchvision

from fedsplit import files
from fedsplit.datasets.base import Filed, Stored
from fedsplit.records.images import Shape


class Mnist(Filed):
    """70,000 grey images of 28 x 28, training and test images together; roles are drawn from all of them."""

    download: bool = False
    """Whether torchvision may fetch the files, if they are not there."""

    @property
    def title(self) -> str:
        """The set's own name."""
        return "MNIST"

    def filed_shape(self) -> Shape:
        """Grey, 28 x 28."""
        return (1, 28, 28)

    def filed_classes(self) -> int:
        """Ten."""
        return 10

    def read_files(self) -> Stored:
        """From idx files in torchvision's layout, gzipped or not; the folder is only read from."""
        if self.download:
            torchvision.datasets.MNIST(self.folder, download=True)
        parts = [(self._idx(part, "images-idx3"), self._idx(part, "labels-idx1")) for part in ("train", "t10k")]
        rows = self.chosen(sum(len(labels) for _, labels in parts))
        pixels = torch.cat([images for images, _ in parts])[rows, None]
        labels = torch.cat([labels for _, labels in parts])[rows].long()
        return Stored(pixels, labels, tuple(str(digit) for digit in range(10)))

    def _idx(self, part: str, content: str) -> torch.Tensor:
        name = f"MNIST/raw/{part}-{content}-ubyte"
        return files.read_idx(self.find(name, f"{name}.gz"))
