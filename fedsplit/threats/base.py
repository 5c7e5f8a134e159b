"""The contract of a threat: which assets an adversary has."""

from abc import abstractmethod
from typing import Annotated, Literal

from fedsplit.component import Component, Family
from fedsplit.records.leak import Asset, Leak, closure

Knowledge = Literal["no", "algorithm", "parameters"]


class Threat(Component):
    """Who the adversary is, said by what it sees and knows."""

    knows_defense: Knowledge = "parameters"
    """no: it prepares against an undefended client. algorithm: its queries and pairs are defended. parameters: it is
    also handed the defense with its settings."""

    @property
    @abstractmethod
    def grants(self) -> frozenset[Asset]:
        """The assets of this adversary, without those they imply."""

    @property
    def assets(self) -> frozenset[Asset]:
        """All assets of this adversary, those implied and the knowledge of the defense included."""
        return self.assets_without(frozenset())

    def assets_without(self, withheld: frozenset[Asset]) -> frozenset[Asset]:
        """All assets of this adversary in a federation that keeps some out of its reach."""
        known = {Asset.DEFENSE} if self.knows_defense == "parameters" else set[Asset]()
        return closure(self.grants - withheld) | known

    def view(self, everything: Leak, withheld: frozenset[Asset] = frozenset()) -> Leak:
        """The leak that this adversary holds, out of everything that crossed the cut or could be known."""
        return everything.granted(self.assets_without(withheld))


THREATS: Family[Threat] = Family("threats", Threat)
AnyThreat = Annotated[Threat, THREATS]
