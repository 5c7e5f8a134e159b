"""Poisoned smashed data: the alignment of gradients by which Zhou, Ye, Zhu and Zhou poison confidence vectors, at a cut
(against inversion networks as in He, Zhang and Lee, ACSAC 2019); our own form of it."""

from functools import partial

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Generator, Tensor

from fedsplit.defenses.base import Defense, Deployed
from fedsplit.defenses.poison_base import Poison
from fedsplit.numerics.poisoning import shrunk
from fedsplit.numerics.ridge import fit_ridge
from fedsplit.records.images import Holding
from fedsplit.records.leak import Phase
from fedsplit.seeding import Seeds
from fedsplit.split import Segments

_HALVINGS = 8


class PoisonSmashed(Poison):
    """Changes the smashed data of the deployed model a little, so that an inversion network that learns from them
    learns to rebuild worse, while the server's answer names the same class.

    The changes are found as `poison_preserving` finds those of answers, with a linear rebuilding of the image in place
    of the image: so they follow from the smashed data alone, and the same data is always changed the same way. A client
    that does this needs a copy of the server segment, without which it could not know the label it is to keep. At
    training steps nothing is changed.
    """

    budget: PositiveFloat = 0.2
    """How far smashed data may move, as a share of its own length; for `rate`, of its root mean square size."""
    margin: NonNegativeFloat = 0.01
    """By how much the largest confidence stays ahead of every other, or by as much as it was where that is less."""

    @property
    def caveat(self) -> str:
        """What a client has to hold, and where it does nothing."""
        return "needs the server segment at every client once training is over; at training steps its row is undefended"

    def changing(self, phase: Phase) -> tuple[Defense, ...]:
        """Once it is deployed."""
        return (self,) if phase == "inference" else ()

    def deploy(self, model: Segments, data: Holding, rng: Generator) -> Deployed:
        """Prepares on the client's rows; what crosses the cut is changed, answers follow from it."""
        seeds = Seeds(int(torch.randint(2**62, (), generator=rng)))
        with torch.no_grad():
            smashed = model.client(data.pixels)
        rebuild = fit_ridge(smashed.flatten(1), data.pixels.flatten(1)).predict
        lesson = self.lesson(smashed, data, seeds, logarithms=False)
        step = partial(shrunk, budget=self.budget)
        aim = partial(lesson.misalignment, images=lesson.images)
        own = self.searched(aim, lesson.seen, step, self._scale(lesson.seen))
        directions = lesson.directions(own)
        plain = self.released("inference")

        def release(smashed: Tensor, rng: Generator) -> Tensor:
            smashed = plain.release(smashed, rng).detach()
            images = rebuild(smashed.flatten(1)).view(-1, *data.pixels.shape[1:])
            aim = partial(lesson.effect, directions, images=images)
            found = self.searched(aim, smashed, step, self._scale(smashed))
            return self._keeping_label(model, smashed, found)

        return Deployed(release=release, answer=plain.answer)

    def _scale(self, smashed: Tensor) -> Tensor:
        size = smashed.flatten(1).square().mean(dim=1).sqrt().clamp(min=torch.finfo(smashed.dtype).tiny)
        return self.budget * size.view(-1, *(1,) * (smashed.ndim - 1))

    @torch.no_grad()
    def _keeping_label(self, model: Segments, smashed: Tensor, found: Tensor) -> Tensor:
        """Halfway back, and again, wherever the server would not name the same class; in the end all of the way."""
        before = self._confidences(model, smashed)
        top = before.argmax(dim=1, keepdim=True)
        # The top class is never ahead of itself; nor need it be.
        others = torch.ones_like(before, dtype=torch.bool).scatter(1, top, value=False)
        wanted = (before.gather(1, top) - before).clamp(max=self.margin)
        change = found - smashed
        for halving in range(_HALVINGS + 1):
            after = self._confidences(model, smashed + change)
            behind = ((after.gather(1, top) - after < wanted) & others).any(dim=1)
            if not bool(behind.any()):
                break
            change[behind] *= 0.5 if halving < _HALVINGS else 0
        return smashed + change

    def _confidences(self, model: Segments, smashed: Tensor) -> Tensor:
        hidden, last = model.behind
        return last(hidden(smashed)).softmax(dim=1)
