"""Fashion-MNIST (Xiao, Rasul, Vollgraf, arXiv 1708.07747, 2017): articles of clothing."""

import torchvision

from fedsplit import files
from fedsplit.datasets.base import Filed, Stored
from fedsplit.records.images import Shape


class FashionMnist(Filed):
    """70,000 grey images of 28 x 28, training and test images together; roles are drawn from all of them."""

    download: bool = False
    """Whether torchvision may fetch the files, if they are not there."""

    @property
    def title(self) -> str:
        """The set's own name."""
        return "Fashion-MNIST"

    def filed_shape(self) -> Shape:
        """Grey, 28 x 28."""
        return (1, 28, 28)

    def filed_classes(self) -> int:
        """Ten."""
        return 10

    def read_files(self) -> Stored:
        """From idx files in torchvision's layout, gzipped or not; the folder is only read from."""
        first = "FashionMNIST/raw/train-images-idx3-ubyte"
        fetch = torchvision.datasets.FashionMNIST if self.download else None
        pixels, labels = files.read_idx_folder(self.find(first, f"{first}.gz", fetch=fetch).parent)
        rows = self.chosen(len(labels))
        return Stored(pixels[rows], labels[rows], tuple(torchvision.datasets.FashionMNIST.classes))
