"""CIFAR-10 (Krizhevsky 2009): small colour photographs of ten kinds of things."""

import torch
import torchvision

from fedsplit import files
from fedsplit.datasets.base import Filed, Stored
from fedsplit.errors import DataError
from fedsplit.records.images import Shape

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Cifar10(Filed):
    """60,000 colour images of 32 x 32, training and test images together; roles are drawn from all of them.

    From torchvision's python batches, or from `cifar10_jpeg.npz`. The packed file holds JPEG versions, which are not
    the original pixels: do not set scores on it beside published ones without saying so.
    """

    download: bool = False
    """Whether torchvision may fetch the files, if they are not there."""

    @property
    def title(self) -> str:
        """The set's own name."""
        return "CIFAR-10"

    def filed_shape(self) -> Shape:
        """Colour, 32 x 32."""
        return (3, 32, 32)

    def filed_classes(self) -> int:
        """Ten."""
        return len(CLASSES)

    def read_files(self) -> Stored:
        """The batches where they are there, else the packed file."""
        fetch = torchvision.datasets.CIFAR10 if self.download else None
        found = self.find("cifar-10-batches-py", "cifar10_jpeg.npz", fetch=fetch)
        return self._batches() if found.is_dir() else self._packed(files.Pack(found))

    def _packed(self, pack: files.Pack) -> Stored:
        count = pack.jpeg_count()
        rows = self.chosen(count)
        return Stored(pack.jpegs(rows, "RGB"), pack.labels("labels", count, len(CLASSES))[rows], CLASSES)

    def _batches(self) -> Stored:
        # The batches are pickles; torchvision opens them only after their published checksums agree.
        try:
            parts = [torchvision.datasets.CIFAR10(self.folder, train=train) for train in (True, False)]
        except (OSError, RuntimeError) as error:
            remedy = "get the files again, or set download: true"
            raise DataError(
                f"is broken ({error})", at=str(self.folder / "cifar-10-batches-py"), remedy=remedy
            ) from error
        rows = self.chosen(sum(len(part) for part in parts))
        pixels = torch.cat([torch.from_numpy(part.data).permute(0, 3, 1, 2) for part in parts])[rows]
        return Stored(pixels, torch.cat([torch.tensor(part.targets) for part in parts])[rows], CLASSES)
