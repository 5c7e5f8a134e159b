"""Label-flipping poisoning of confidence vectors (LFP: Zhou, Ye, Zhu and Zhou; rebuilt from their abstract, with the
inversion networks of Yang, Zhang, Chang and Liang, CCS 2019)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Generator, Tensor

from fedsplit.defenses.base import Answer, Defense, Deployed
from fedsplit.layers.flip_choice import train_flip_choice
from fedsplit.layers.lesson import Lesson, prepare_lesson
from fedsplit.layers.poison_generator import GeneratorTraining
from fedsplit.numerics.poisoning import Norm, minimised, swapped, unit
from fedsplit.records.images import Holding
from fedsplit.seeding import Seeds
from fedsplit.split import Segments

_GENERATED = 4


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
    """Of Adam, for each answer that is falsified; networks that stand for the search train for four times as many."""
    rate: PositiveFloat = 0.05
    """Of Adam, as a share of the budget."""
    passes: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0, 20)
    """Over the client's rows, after which the networks are looked at; 0 is as they were drawn."""
    rows: PositiveInt = 128
    """That a client plays the adversary with, at most; as many others are those it protects."""
    generator: bool = False
    """Whether networks that were trained for it choose and change in one pass, from the answer without the image."""

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
        form = self._generated(lesson, directions, seeds) if self.generator else self._searched(lesson, directions)
        return Deployed(release=self.released.release, answer=_falsifying(*form))

    def _searched(self, lesson: Lesson, directions: Sequence[Tensor]) -> tuple["Chosen", Answer]:
        steep = steepness(lesson, directions, lesson.seen, lesson.images).quantile(1 - self.share)
        step = unit(self.budget, None, self.norm)

        def chosen(images: Tensor, confidences: Tensor) -> Tensor:
            return steepness(lesson, directions, confidences, images) >= steep

        def falsified(images: Tensor, confidences: Tensor) -> Tensor:
            false = swapped(confidences, misleading(lesson, directions, confidences, images))
            aim = partial(lesson.effect, directions, images=images)
            return minimised(aim, false, step, self.budget, self.steps, self.rate)

        return chosen, falsified

    def _generated(self, lesson: Lesson, directions: Sequence[Tensor], seeds: Seeds) -> tuple["Chosen", Answer]:
        steps, step = _GENERATED * self.steps, unit(self.budget, None, self.norm)
        steep = steepness(lesson, directions, lesson.seen, lesson.images)
        named = misleading(lesson, directions, lesson.seen, lesson.images)
        choice = train_flip_choice(lesson.seen, steep, named, steps, seeds)

        def effect(released: Tensor, rows: Tensor) -> Tensor:
            return lesson.effect(directions, released, lesson.images[rows]) / len(rows)

        false = swapped(lesson.seen, choice.named(lesson.seen))
        change = GeneratorTraining(self.budget, steps).run(false, effect, step, seeds)
        # By what the network makes of them, so that it is this share of them whatever it has learned.
        least = choice.gains(lesson.seen).quantile(1 - self.share)

        def falsified(_: Tensor, confidences: Tensor) -> Tensor:
            false = swapped(confidences, choice.named(confidences))
            return step(false, change(false))

        return lambda _, confidences: choice.gains(confidences) >= least, falsified


Chosen = Callable[[Tensor, Tensor], Tensor]
"""(images, confidences) -> (n,), which of the answers are falsified."""


def _falsifying(chosen: Chosen, falsified: Answer) -> Answer:
    def answer(images: Tensor, confidences: Tensor) -> Tensor:
        some = chosen(images, confidences)
        if not bool(some.any()):
            return confidences
        released = confidences.clone()
        released[some] = falsified(images[some], confidences[some])
        return released

    return answer


def misleading(lesson: Lesson, directions: Sequence[Tensor], confidences: Tensor, images: Tensor) -> Tensor:
    """(n,): the other class that lowers the misalignment most, where the answer's largest confidence is moved there."""
    count, classes = confidences.shape
    others = [torch.full((count,), other, device=confidences.device) for other in range(classes)]
    each = [lesson.effects(directions, swapped(confidences, other), images).detach() for other in others]
    effects = torch.stack(each, dim=1).scatter(1, confidences.argmax(dim=1, keepdim=True), torch.inf)
    return effects.argmin(dim=1)


def steepness(lesson: Lesson, directions: Sequence[Tensor], confidences: Tensor, images: Tensor) -> Tensor:
    """(n,): how fast a change of each answer would change the misalignment."""
    with torch.enable_grad():
        asked = confidences.detach().requires_grad_()
        (slope,) = torch.autograd.grad(lesson.effect(directions, asked, images), asked)
    return slope.norm(dim=1)
