"""Somebody who may only ask (Yang, Zhang, Chang, Liang, "Neural network inversion in adversarial setting via background
knowledge alignment", CCS 2019): released answers, and nothing else."""

from typing import ClassVar

from fedsplit.records.leak import Asset, LeakKind
from fedsplit.threats.base import Threat


class Confidences(Threat):
    """Holds the confidence vectors that the deployed model released for the targets, and asks for those of images of
    its own. A defense that changes answers has changed all of them."""

    behind_the_cut: ClassVar[LeakKind | None] = "answers"

    @property
    def grants(self) -> frozenset[Asset]:
        """The answers, and queries."""
        return frozenset({Asset.SMASHED, Asset.CLIENT_QUERIES})
