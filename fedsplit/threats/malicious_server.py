"""The server itself, and it does not follow the protocol."""

from fedsplit.records.leak import Asset
from fedsplit.threats.base import Threat, held_by_server, server_limits


class MaliciousServer(Threat):
    """Sees and knows what `curious_server` does, and may answer clients with gradients of its own choice, so that
    active attacks run under it. Clients do as they are told: none of them looks at what comes back."""

    active = True

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
