"""Answers that are surer than the labels (Struppek, Hintersdorf, Kersting, ICLR 2024)."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from fedsplit.defenses.base import Defense
from fedsplit.errors import EngineError
from fedsplit.records.step import ServerStep


class NegativeLabelSmoothing(Defense):
    """Trains with label smoothing of a negative amount: other classes are pushed away beyond what the labels say.

    Meant against whoever rebuilds what a class looks like from confidences or through the whole model; it does nothing
    about one image behind a cut. The published schedule (nothing, then a ramp, then all of it) is left to the rounds:
    the whole amount acts from the first step.
    """

    amount: Annotated[float, Field(lt=0, ge=-1)] = -0.05
    """Below zero; (1 - amount) cross-entropy + amount times the mean negative log of all confidences."""

    def server_penalty(self, step: ServerStep) -> Tensor:
        """What is missing from the cross-entropy. Raises EngineError where the head is at the client (U-shaped)."""
        if step.logits is None or step.labels is None:
            remedy = "leave `head` out, so that the server has the labels"
            raise EngineError("the labels stay at the client", at="defense negative_label_smoothing", remedy=remedy)
        surprise = -step.logits.log_softmax(dim=1)
        task = surprise.gather(1, step.labels[:, None]).squeeze(1)
        return self.amount * (surprise.mean(dim=1) - task).mean()
