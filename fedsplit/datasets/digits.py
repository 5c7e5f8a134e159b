"""The 8 x 8 digits bundled with scikit-learn (Alpaydin, Kaynak, UCI repository 1998): no file needed."""

import gzip
import importlib.util
from pathlib import Path

import numpy as np
import torch

from fedsplit import files
from fedsplit.datasets.base import Dataset, Stored
from fedsplit.errors import DataError
from fedsplit.records.images import Shape

_FILE = Path("datasets", "data", "digits.csv.gz")


class Digits(Dataset):
    """1,797 handwritten digits of 43 people, in 17 grey levels."""

    @property
    def title(self) -> str:
        """The set's own name."""
        return "Digits"

    def stored_shape(self) -> Shape:
        """Grey, 8 x 8."""
        return (1, 8, 8)

    def classes(self) -> int:
        """Ten."""
        return 10

    def read(self) -> Stored:
        """From the installed package: its file alone, since to import the package takes longer than many a training."""
        path = _bundled()
        with files.reading(path), gzip.open(path, "rt") as lines:
            table = torch.from_numpy(np.loadtxt(lines, delimiter=",", dtype=np.uint8))
            pixels = table[:, :-1].reshape(-1, *self.stored_shape())
        rows = self.chosen(len(table))
        levels = pixels.double().mul(255 / 16).round().to(torch.uint8)
        return Stored(levels[rows], table[rows, -1].long(), tuple(str(digit) for digit in range(10)))


def _bundled() -> Path:
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        raise DataError("scikit-learn is not installed", at="dataset (digits)", remedy="pip install scikit-learn")
    return Path(found.origin).parent / _FILE
