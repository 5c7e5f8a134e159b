"""The contract of a threat: which assets an adversary has."""

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

from fedsplit.auxiliary import AuxiliaryImages
from fedsplit.component import Component, Family
from fedsplit.records.leak import Asset, Leak, LeakKind, closure

Knowledge = Literal["no", "algorithm", "parameters"]

_LIMITS: dict[Knowledge, str] = {"no": "unaware of defenses", "algorithm": "knows no parameters", "parameters": ""}


class Threat(Component):
    """Who the adversary is, said by what it sees and knows."""

    active: ClassVar[bool] = False
    """Whether it may depart from the protocol; an active attack needs one that may."""

    behind_the_cut: ClassVar[LeakKind | None] = None
    """Where it looks at the deployed model; None for the cut."""

    knows_defense: Knowledge = "parameters"
    """no: it prepares against an undefended client. algorithm: its queries and pairs are defended. parameters: it is
    also handed the defense with its settings."""
    repeats: bool = False
    """Whether every target is answered again and again, as where an image is sent more than once, so that it can wait
    for more answers. At training steps there is one of each."""
    auxiliary: AuxiliaryImages = AuxiliaryImages()
    """Which images of its own it learns from."""

    @property
    def title(self) -> str:
        """The kind, and what this adversary may, knows and has, where that is not the usual of its kind."""
        patient = "repeated answers" if self.repeats else ""
        limits = "; ".join(
            filter(None, (self.access_title, patient, _LIMITS[self.knows_defense], self.auxiliary.title))
        )
        return f"{self.kind} ({limits})" if limits else self.kind

    @property
    def access_title(self) -> str:
        """How it may use what it attacks, in a word; empty where that is all that its kind may."""
        return ""

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
        patient = {Asset.REPEATS} if self.repeats else set[Asset]()
        return closure(self.grants - withheld) | known | patient

    def view(self, everything: Leak, withheld: frozenset[Asset] = frozenset()) -> Leak:
        """The leak that this adversary holds, out of everything that crossed the cut or could be known."""
        return everything.granted(self.assets_without(withheld))


def held_by_server(*, aggregates: bool, queries: bool) -> frozenset[Asset]:
    """Everything at the server. aggregates: client weights, too. queries: answers to images of its own, too."""
    granted = {Asset.SMASHED, Asset.CUT_GRADIENTS, Asset.LABELS, Asset.HEAD_GRADIENTS, Asset.SERVER_SEGMENTS}
    if queries:
        granted.add(Asset.CLIENT_QUERIES)
    if aggregates:
        granted.add(Asset.CLIENT_WEIGHTS)
    return frozenset(granted)


def server_limits(*, aggregates: bool, queries: bool) -> str:
    """What such a server lacks, in words."""
    if aggregates:
        return ""
    return "no client weights" if queries else "no client weights, no queries"


THREATS: Family[Threat] = Family("threats", Threat)
AnyThreat = Annotated[Threat, THREATS]
