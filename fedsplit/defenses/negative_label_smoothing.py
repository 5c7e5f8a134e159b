"""Answers that are surer than the labels (Struppek, Hintersdorf, Kersting, ICLR 2024)."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from fedsplit.defenses.base import Defense
from fedsplit.records.step import ServerStep


class NegativeLabelSmoothing(Defense):
    """Trains with label smoothing of a negative amount: other classes are pushed away beyond what the labels say.

    Meant against whoever rebuilds what a class looks like from confidences or through the whole model; it does nothing
    about one image behind a cut. The whole amount acts from the first step: the published schedule, nothing in the
    first half of training and then a ramp, is not followed.
    """

    amount: Annotated[float, Field(lt=0, ge=-1)] = -0.05
    """Below zero; (1 - amount) cross-entropy + amount times the mean negative log of all confidences."""

    @property
    def needs_server_labels(self) -> bool:
        """It changes what the server makes of them."""
        return True

    def server_penalty(self, step: ServerStep) -> Tensor:
        """What is missing from the cross-entropy."""
        assert step.logits is not None and step.labels is not None, "a scenario that keeps labels back is refused"
        surprise = -step.logits.log_softmax(dim=1)
        task = surprise.gather(1, step.labels[:, None]).squeeze(1)
        return self.amount * (surprise.mean(dim=1) - task).mean()
