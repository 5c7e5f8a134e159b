"""The server itself: it follows the protocol and keeps all it sees."""

from fedsplit.records.leak import Asset
from fedsplit.threats.base import Threat, held_by_server, server_limits


class CuriousServer(Threat):
    """Sees what crosses the cut, the labels that come with it, and its own segment over time.

    Where it also averages the client segments it holds their weights in every round: that is what one server process
    of split federated learning does, so it is the default.
    """

    aggregates: bool = True
    """Whether the same party averages the client segments and so holds their weights."""
    queries: bool = True
    """Whether a client releases smashed data of images that the adversary chose. Who holds the weights can anyway."""

    @property
    def grants(self) -> frozenset[Asset]:
        """Everything at the server; client weights unless somebody else averages."""
        return held_by_server(aggregates=self.aggregates, queries=self.queries)

    @property
    def access_title(self) -> str:
        """What it lacks where somebody else averages; who has the weights needs no queries."""
        return server_limits(aggregates=self.aggregates, queries=self.queries)
