"""Answers that are surer than the labels (Struppek, Hintersdorf, Kersting, "Be Careful What You Smooth For: Label
Smoothing Can Be a Privacy Shield but Also a Catalyst for Model Inversion Attacks", ICLR 2024)."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from fedsplit.defenses.base import Defense
from fedsplit.records.step import Progress, ServerStep


class NegativeLabelSmoothing(Defense):
    """Trains with label smoothing of a negative amount: other classes are pushed away beyond what the labels say.

    Meant against whoever rebuilds what a class looks like from confidences or through the whole model; it does nothing
    about one image behind a cut. By default it follows the published schedule, with rounds for epochs: nothing in the
    first half of training, then a ramp, and the whole amount in the last quarter.
    """

    amount: Annotated[float, Field(lt=0, ge=-1)] = -0.05
    """Below zero; (1 - amount) cross-entropy + amount times the mean negative log of all confidences."""
    start: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of the rounds that pass without it. The amount then grows in equal steps from round to round."""
    full: Annotated[float, Field(ge=0, le=1)] = 0.75
    """Share of the rounds after which it acts as a whole, not below `start`; 0 for both: from the first step on."""

    def model_post_init(self, context: object) -> None:
        """Refuses a ramp that ends before it starts."""
        Defense.model_post_init(self, context)
        if self.full < self.start:
            raise ValueError(f"`full` ({self.full}) is below `start` ({self.start}); raise it, or lower `start`")

    @property
    def needs_server_labels(self) -> bool:
        """It changes what the server makes of them."""
        return True

    def server_penalty(self, step: ServerStep) -> Tensor:
        """What is missing from the cross-entropy."""
        assert step.logits is not None and step.labels is not None, "a scenario that keeps labels back is refused"
        surprise = -step.logits.log_softmax(dim=1)
        task = surprise.gather(1, step.labels[:, None]).squeeze(1)
        return self.acting(step.progress) * step.mean(surprise.mean(dim=1) - task)

    def acting(self, progress: Progress) -> float:
        """What of the amount acts in this round: all of it in the last one."""
        if progress.share <= self.start:
            return 0.0
        if progress.share >= self.full:
            return self.amount
        return self.amount * (progress.share - self.start) / (self.full - self.start)
