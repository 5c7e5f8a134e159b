"""The adversary of Plug-and-Play attacks (Struppek, Hintersdorf, De Almeida Correia, Adler and Kersting, ICML 2022): it
has the deployed model, and images of its own that a generator can learn from."""

from typing import ClassVar, Literal

from fedsplit.records.leak import Asset, LeakKind
from fedsplit.threats.base import Threat


class PlugAndPlay(Threat):
    """Holds the deployed model, or may ask it for scores; sees nothing that anybody sent, so that what it can rebuild
    are the model's classes. Its images are those of `auxiliary`: in the ideal case of the clients' own distribution,
    else of another data set."""

    behind_the_cut: ClassVar[LeakKind | None] = "model"

    access: Literal["weights", "scores"] = "weights"
    """weights: it runs the model itself, without the noise that clients add to what they send. scores: it asks the
    deployed model, and gets the confidences that are released."""

    @property
    def grants(self) -> frozenset[Asset]:
        """The model, or its answers."""
        return frozenset({Asset.MODEL if self.access == "weights" else Asset.SCORES})

    @property
    def access_title(self) -> str:
        """Whether it only asks for scores."""
        return "scores" if self.access == "scores" else ""
