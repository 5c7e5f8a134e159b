"""The adversary of the core paper (Dibbo, Breuer, Moore, Teti, ECCV 2024): smashed data and pairs to learn from."""

from fedsplit.records.leak import Asset
from fedsplit.threats.base import Threat


class SplitNetwork(Threat):
    """Holds the targets' smashed data, and pairs of images of its own with their released smashed data.

    How it came by the pairs is not said; it has one released answer for each image and cannot ask again, unless
    `repeats` says so: each is then the mean of as many as it waits for.
    """

    @property
    def grants(self) -> frozenset[Asset]:
        """Smashed data and auxiliary pairs."""
        return frozenset({Asset.SMASHED, Asset.AUXILIARY_PAIRS})
