"""A network that decides from an answer alone how much there is to gain from falsifying it, and what it is to name
instead: it stands for gradients through inversion networks, which take the image and far longer."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedsplit.layers.surrogate import Reading
from fedsplit.seeding import Seeds

_HIDDEN = 64
_RATE = 0.01


class FlipChoice(nn.Module):
    """Each answer by itself, (n, classes) on the simplex."""

    def __init__(self, confidences: Tensor) -> None:
        """confidences: of the client's rows. Weights come from torch's global generator."""
        super().__init__()
        classes = confidences.shape[1]
        self.read = nn.Sequential(Reading(confidences, logarithms=True), nn.Linear(classes, _HIDDEN), nn.Tanh())
        self.gain = nn.Linear(_HIDDEN, 1)
        self.other = nn.Linear(_HIDDEN, classes)

    def gains(self, confidences: Tensor) -> Tensor:
        """(n,): the more, the larger."""
        return self.gain(self.read(confidences)).squeeze(1)

    def others(self, confidences: Tensor) -> Tensor:
        """(n, classes): logits of what to name, with nothing left for the class that the answer names itself."""
        own = confidences.argmax(dim=1, keepdim=True)
        return self.other(self.read(confidences)).scatter(1, own, -torch.inf)

    def named(self, confidences: Tensor) -> Tensor:
        """(n,): the class to name instead."""
        return self.others(confidences).argmax(dim=1)


def train_flip_choice(confidences: Tensor, gains: Tensor, named: Tensor, steps: int, seeds: Seeds) -> FlipChoice:
    """Learns from answers (n, classes) what there is to gain from each, (n,) above zero, and which other class, (n,),
    it is to name. What is returned has no graph."""
    with seeds.fork("choice"):
        choice = FlipChoice(confidences).to(confidences)
    # Gains differ by powers of ten, and their order is what counts.
    wanted = gains.clamp(min=torch.finfo(gains.dtype).tiny).log()
    deviation = wanted.std(correction=0)
    wanted = (wanted - wanted.mean()) / torch.where(deviation > 0, deviation, 1)
    optimizer = torch.optim.Adam(choice.parameters(), lr=_RATE)
    for _ in range(steps):
        with torch.enable_grad():
            loss = F.mse_loss(choice.gains(confidences), wanted) + F.cross_entropy(choice.others(confidences), named)
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
    return choice.requires_grad_(requires_grad=False)
