"""A data set that is not there, or is another one, wherever a variable does not say that it is."""

import os

from fedsplit.datasets.base import Stored
from fedsplit.datasets.digits import Digits
from fedsplit.errors import DataError

VARIABLE = "FEDSPLIT_TESTS_IMAGES"


class SomewhereDigits(Digits):
    """Digits where the variable says `here`; turned upside down where it says `others`."""

    def read(self) -> Stored:
        stored, said = super().read(), os.environ.get(VARIABLE)
        if said == "others":
            return Stored(stored.pixels.flip(2), stored.labels, stored.class_names)
        if said != "here":
            raise DataError("is not on this machine", at="dataset", remedy="look elsewhere")
        return stored
