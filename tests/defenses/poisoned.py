"""A deployed client of random weights, and what poisoning makes of its answers."""

from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor, nn

from fedsplit.defenses.base import Defense, Deployed
from fedsplit.federation.plan import Plan
from fedsplit.records.images import Holding
from fedsplit.split import Segments
from tests.federation.builders import holding, images, plan_of

ROWS, ASKED = 40, 30


@dataclass(frozen=True)
class Question:
    """Images that were not there when the client was deployed, and what crosses or is answered without a defense."""

    segments: Segments
    own: Holding
    images: Tensor
    smashed: Tensor
    confidences: Tensor

    def deployed(self, defense: Defense, seed: int = 0) -> Deployed:
        return defense.deploy(self.segments, self.own, Generator().manual_seed(seed))


def question(**changes: object) -> Question:
    """With answers from sure to unsure, and of every class."""
    plan: Plan = plan_of(precision="float64", **changes)
    segments = plan.segments()
    for _, block in segments.whole.blocks():
        block.eval()
    own, asked = images(ROWS, seed=0), images(ASKED, seed=1).pixels.double()
    smashed = segments.client(asked).detach()
    last = segments.behind[1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.mul_(3 / segments.whole(asked).std(dim=0).mean())
        last.bias.sub_(segments.whole(asked).mean(dim=0))
    confidences = segments.whole(asked).softmax(dim=1).detach()
    own = holding(replace(own, pixels=own.pixels.double()))
    return Question(segments, own, asked, smashed, confidences)
