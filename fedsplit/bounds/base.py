"""The contract of a bound: what no attacker under its assumptions can beat, as a number with its direction."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from torch import Tensor, nn

from fedsplit.component import Component, Family
from fedsplit.records.outcome import Limit


@dataclass(frozen=True)
class Channel:
    """From the image to what is seen at the cut. client: the deployed segment, in evaluation mode, (n, *image) ->
    (n, *cut). noise_variance: of the independent noise of mean zero that is added to each of its outputs; None where
    something else is done to them."""

    client: nn.Module
    noise_variance: float | None


class Bound(Component):
    """What can be said of all attacks at once. It attacks nothing, and may look at the targets."""

    metric: ClassVar[str]
    """The name of the metric that it is about."""
    direction: ClassVar[Literal["at least", "at most"]]
    """On which side of the number every attacker's score lies, as far as the assumptions hold."""

    about: ClassVar[str]
    """Which attacks it is about, and what it takes for granted, in words."""

    @abstractmethod
    def limit(self, channel: Channel, images: Tensor) -> Limit:
        """images: (targets, channels, height, width). `absent` where it does not hold."""

    def known(self, value: float) -> Limit:
        """The limit with this number."""
        return Limit(value=value, metric=self.metric, direction=self.direction, about=self.about)

    def absent(self, reason: str) -> Limit:
        """No number, and why."""
        return Limit(value=None, metric=self.metric, direction=self.direction, about=self.about, reason=reason)


BOUNDS: Family[Bound] = Family("bounds", Bound)
AnyBound = Annotated[Bound, BOUNDS]
