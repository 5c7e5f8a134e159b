"""The 8 x 8 digits bundled with scikit-learn (Alpaydin, Kaynak, UCI repository 1998): no file needed."""

import torch
from sklearn.datasets import load_digits

from fedsplit.datasets.base import Dataset, Stored
from fedsplit.records.images import Shape


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
        """From the installed package."""
        levels, digits = map(torch.from_numpy, load_digits(return_X_y=True))
        rows = self.chosen(len(digits))
        pixels = levels.mul(255 / 16).round().to(torch.uint8).view(-1, *self.stored_shape())
        return Stored(pixels[rows], digits.long()[rows], tuple(str(digit) for digit in range(10)))
