"""Medical MNIST, also MedNIST (gathered by B. J. Erickson from TCIA, the RSNA Bone Age Challenge, NIH chest X-rays)."""

from pathlib import Path

import torch
from pydantic import PositiveFloat

from fedsplit import files
from fedsplit.datasets.base import Filed, Stored
from fedsplit.errors import DataError
from fedsplit.records.images import Shape

CLASSES = ("AbdomenCT", "BreastMRI", "CXR", "ChestCT", "Hand", "HeadCT")


class MedicalMnist(Filed):
    """58,954 grey images of 64 x 64 in six classes: abdomen CT, breast MRI, chest radiograph, chest CT, hand, head CT.

    440 are exact copies. Neighbouring slices of one patient are spread over the set and no patient is marked, so they
    are found by looks: below the default distance pairs are slices of one body. A group may be a patient's whole
    volume; the largest of all has 1,156 images.
    The mean grey level alone nearly tells the class, so accuracies are high.
    """

    near_duplicates: PositiveFloat | None = 0.15
    """Two images of a class go to the same role when their standardised thumbnails are closer than this (root mean
    square). None: every image stands for itself."""

    @property
    def title(self) -> str:
        """The set's own name."""
        return "Medical MNIST"

    def filed_shape(self) -> Shape:
        """Grey, 64 x 64."""
        return (1, 64, 64)

    def filed_classes(self) -> int:
        """Six."""
        return len(CLASSES)

    def read_files(self) -> Stored:
        """From `medical_mnist.npz` (JPEGs packed), or a folder of JPEGs per class."""
        # Any class will do, or an incomplete set of folders would pass for a missing one.
        places = (f"{place}{name}" for name in CLASSES for place in ("", "medical_mnist/", "archive/"))
        found = self.find("medical_mnist.npz", *places)
        return self._packed(files.Pack(found)) if found.is_file() else self._folders(found.parent)

    def _packed(self, pack: files.Pack) -> Stored:
        count = pack.jpeg_count()
        rows = self.chosen(count)
        names = tuple(str(name) for name in pack.array("class_names"))
        return Stored(pack.jpegs(rows, "L"), pack.labels("labels", count, len(names))[rows], names)

    def _folders(self, root: Path) -> Stored:
        found = files.class_folders(root)
        for name in CLASSES:
            if not found.get(name):
                raise DataError("this class has no image", at=str(root / name), remedy="unpack the whole data set")
        listed = [(path, label) for label, name in enumerate(CLASSES) for path in found[name]]
        rows = self.chosen(len(listed)).tolist()
        labels = torch.tensor([listed[row][1] for row in rows])
        return Stored(files.read_images([listed[row][0] for row in rows], "L", None), labels, CLASSES)
