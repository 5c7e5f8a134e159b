"""Somebody on the wire between the clients and the server."""

from fedsplit.records.leak import Asset
from fedsplit.threats.base import Threat


class Eavesdropper(Threat):
    """Reads whatever crosses the cut, in both directions, and may send images of its own through a client."""

    queries: bool = True
    """Whether a client releases smashed data of images that the adversary chose (as an API does, or an accomplice)."""

    @property
    def grants(self) -> frozenset[Asset]:
        """Smashed data and all gradients that cross; queries unless switched off."""
        seen = frozenset({Asset.SMASHED, Asset.CUT_GRADIENTS, Asset.HEAD_GRADIENTS})
        return seen | {Asset.CLIENT_QUERIES} if self.queries else seen

    @property
    def access_title(self) -> str:
        """Whether it cannot ask."""
        return "" if self.queries else "no queries"
