"""Learned noise at the cut (Mireshghallah, Taram, Ramrakhyani, Jalali, Tullsen, Esmaeilzadeh, "Shredder: learning noise
distributions to protect inference privacy", ASPLOS 2020)."""

from typing import Annotated

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Generator, Tensor
from torch.nn import functional

from fedsplit.defenses.base import Defense, Deployed
from fedsplit.numerics.laplace import laplace
from fedsplit.progress import track
from fedsplit.records.images import Holding
from fedsplit.records.leak import Phase
from fedsplit.seeding import Seeds
from fedsplit.split import Segments


class Shredder(Defense):
    """Adds to the smashed data of the deployed model one of a few noise tensors, drawn anew for every image and answer.

    Once training is over and with all weights as they are, each client learns its own collection on its own rows: every
    tensor begins as Laplace noise and lowers the cross-entropy of the rows' labels while it grows in magnitude. A
    client that does this needs a copy of the server segment, to learn through it. At training steps nothing is added.
    What is drawn is a tensor of the collection, not a new one from a distribution fitted to them: the noise lies in no
    more directions than there are tensors, and whoever learns from answers learns to leave these out.
    """

    tensors: PositiveInt = 16
    """How many there are to draw from."""
    scale: PositiveFloat = 1.0
    """Of the Laplace distribution that a tensor begins with, in units of the standard deviation of all the client's
    smashed data. Published for one network: 1.2, in units of its activations."""
    steps: PositiveInt = 200
    """Of Adam."""
    rate: PositiveFloat = 0.02
    """Of Adam, in the same units."""
    weight: NonNegativeFloat = 0.5
    """In the loss, of the mean magnitude of the noise in the same units, which is subtracted from the cross-entropy."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.99
    """What each step leaves of the weight."""
    batch_size: PositiveInt = 16
    """Rows that each tensor is tried on in a step."""

    @property
    def caveat(self) -> str:
        """What a client has to hold, and where it does nothing."""
        return "needs the server segment at every client once training is over; at training steps its row is undefended"

    def changing(self, phase: Phase) -> tuple[Defense, ...]:
        """Once it is deployed."""
        return (self,) if phase == "inference" else ()

    def deploy(self, model: Segments, data: Holding, rng: Generator) -> Deployed:
        """Learns a collection on the client's rows; what crosses the cut is noisy, answers follow from it."""
        with torch.no_grad():
            smashed = model.client(data.pixels)
        collection = self._learned(model, smashed, data.labels, Seeds(int(torch.randint(2**62, (), generator=rng))))

        def release(smashed: Tensor, rng: Generator) -> Tensor:
            drawn = torch.randint(len(collection), (len(smashed),), generator=rng, device=rng.device)
            return smashed + collection[drawn.to(collection.device)].to(smashed)

        return Deployed(release=release, answer=self.released("inference").answer)

    @torch.enable_grad()
    def _learned(self, model: Segments, smashed: Tensor, labels: Tensor, seeds: Seeds) -> Tensor:
        """(tensors, *cut shape), in units of the smashed data."""
        hidden, last = model.behind
        deviation = smashed.std(correction=0)
        noise = self.scale * laplace(smashed.new_empty((self.tensors, *smashed.shape[1:])), seeds("start"))
        noise.requires_grad_()
        optimizer, rows = torch.optim.Adam([noise], lr=self.rate), seeds("rows")
        for step in track(range(self.steps), "learning noise", self.steps):
            drawn = torch.randint(len(smashed), (self.tensors, self.batch_size), generator=rows).to(labels.device)
            logits = last(hidden((smashed[drawn] + deviation * noise[:, None]).flatten(0, 1)))
            # Summed over tensors, of which each learns by itself.
            misread = functional.cross_entropy(logits, labels[drawn].flatten(), reduction="sum") / self.batch_size
            size = noise.abs().flatten(1).mean(dim=1).sum()
            loss = misread - self.weight * self.decay**step * size
            (noise.grad,) = torch.autograd.grad(loss, noise)
            optimizer.step()
        return deviation * noise.detach()
