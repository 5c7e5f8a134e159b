"""The adversary of end-to-end model inversion (Dibbo, Breuer, Moore, Teti, ECCV 2024): the deployed model is looked at
from behind."""

from typing import ClassVar

from fedsplit.records.leak import Asset, LeakKind
from fedsplit.threats.base import Threat


class EndToEnd(Threat):
    """Sees the raw outputs of the last hidden layer of the deployed model, whoever holds that layer, for the targets
    and for images of its own. Nothing of the training, and no weights."""

    behind_the_cut: ClassVar[LeakKind | None] = "hidden"

    queries: bool = True
    """Whether the model answers images of its choice, again and again; else there is one answer for each of its own."""

    @property
    def grants(self) -> frozenset[Asset]:
        """The outputs, and answers or pairs to learn from."""
        return frozenset({Asset.SMASHED, Asset.CLIENT_QUERIES if self.queries else Asset.AUXILIARY_PAIRS})

    @property
    def access_title(self) -> str:
        """Whether it cannot ask."""
        return "" if self.queries else "no queries"
