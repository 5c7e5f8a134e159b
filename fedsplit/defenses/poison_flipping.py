"""Label-flipping poisoning of confidence vectors (LFP: Zhou, Ye, Zhu and Zhou; rebuilt from their abstract, with the
inversion networks of Yang, Zhang, Chang and Liang, CCS 2019)."""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Generator, Tensor

from fedsplit.defenses.base import Defense, Deployed
from fedsplit.layers.lesson import Lesson, prepare_lesson
from fedsplit.numerics.poisoning import Norm, minimised, swapped, unit
from fedsplit.records.images import Holding
from fedsplit.seeding import Seeds
from fedsplit.split import Segments


class PoisonFlipping(Defense):
    """Falsifies a chosen few answers and leaves the others as they are, to the last bit.

    Chosen are the answers that a change would make the most of, for inversion networks that the client trains itself:
    those whose effect is as steep as that of the steepest `share` of its own rows. Which of the others they name
    instead of their class is what leads such a network furthest away; within the budget the answer is then changed
    further. An answer depends on its own image alone, and is the same whenever it is asked for. Whoever is given a
    falsified answer is told a wrong class. An adversary who leaves out what does not fit learns from the rest.
    """

    share: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Of the client's own rows, whose answers are falsified; of other images about as many."""
    budget: Annotated[float, Field(gt=0, le=2)] = 0.2
    """How far an answer may move once its largest confidence has been swapped, in units of confidence."""
    norm: Norm = "sum"
    """What of this move is at most the budget: the sum of its magnitudes over classes, or the largest of them."""
    steps: PositiveInt = 100
    """Of Adam, for each answer that is falsified."""
    rate: PositiveFloat = 0.05
    """Of Adam, as a share of the budget."""
    passes: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0, 20)
    """Over the client's rows, after which the networks are looked at; 0 is as they were drawn."""
    rows: PositiveInt = 128
    """That a client plays the adversary with, at most; as many others are those it protects."""

    @property
    def caveat(self) -> str:
        """Where it does nothing."""
        return (
            "changes the answers of the deployed model alone: at the cut, and of hidden features, its row is undefended"
        )

    def deploy(self, model: Segments, data: Holding, rng: Generator) -> Deployed:
        """Prepares on the client's rows; some answers are falsified, what crosses the cut is as it was."""
        seeds = Seeds(int(torch.randint(2**62, (), generator=rng)))
        with torch.no_grad():
            confidences = model.whole(data.pixels).softmax(dim=1)
        lesson = prepare_lesson(confidences, data.pixels, self.passes, self.rows, seeds, logarithms=True)
        # Most answers are true, so that is what a falsified one joins.
        directions = lesson.directions(lesson.seen)
        steep = _steepness(lesson, directions, lesson.seen, lesson.images).quantile(1 - self.share)

        def answer(images: Tensor, confidences: Tensor) -> Tensor:
            chosen = _steepness(lesson, directions, confidences, images) >= steep
            if not bool(chosen.any()):
                return confidences
            released = confidences.clone()
            released[chosen] = self._falsified(lesson, directions, confidences[chosen], images[chosen])
            return released

        return Deployed(release=self.released.release, answer=answer)

    def _falsified(self, lesson: Lesson, directions: Sequence[Tensor], confidences: Tensor, images: Tensor) -> Tensor:
        return minimised(
            lambda released: lesson.effect(directions, released, images),
            flipped(lesson, directions, confidences, images),
            unit(self.budget, None, self.norm),
            self.budget,
            self.steps,
            self.rate,
        )


def flipped(lesson: Lesson, directions: Sequence[Tensor], confidences: Tensor, images: Tensor) -> Tensor:
    """(n, classes): each answer with its largest confidence at the other class that lowers the misalignment most."""
    count, classes = confidences.shape
    others = [torch.full((count,), other, device=confidences.device) for other in range(classes)]
    each = [lesson.effects(directions, swapped(confidences, other), images).detach() for other in others]
    effects = torch.stack(each, dim=1).scatter(1, confidences.argmax(dim=1, keepdim=True), torch.inf)
    return swapped(confidences, effects.argmin(dim=1))


def _steepness(lesson: Lesson, directions: Sequence[Tensor], confidences: Tensor, images: Tensor) -> Tensor:
    """(n,): how fast a change of each answer would change the misalignment."""
    with torch.enable_grad():
        asked = confidences.detach().requires_grad_()
        (slope,) = torch.autograd.grad(lesson.effect(directions, asked, images), asked)
    return slope.norm(dim=1)
