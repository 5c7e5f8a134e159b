"""Label-flipping poisoning of confidence vectors (LFP: Zhou, Ye, Zhu and Zhou; rebuilt from their abstract, with the
inversion networks of Yang, Zhang, Chang and Liang, CCS 2019)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from fedsplit.defenses.base import Answer
from fedsplit.defenses.poison_base import AnswerPoison
from fedsplit.layers.flip_choice import train_flip_choice
from fedsplit.layers.lesson import Lesson
from fedsplit.numerics.poisoning import swapped, unit
from fedsplit.seeding import Seeds


class PoisonFlipping(AnswerPoison):
    """Falsifies a chosen few answers and leaves the others as they are, to the last bit.

    Chosen are the answers that a change would make the most of, for inversion networks that the client trains itself:
    those whose effect is as steep as that of the steepest `share` of its own rows. Which of the others they name
    instead of their class is what leads such a network furthest away; within the budget the answer is then changed
    further. An answer depends on its own image alone, and is the same whenever it is asked for. Whoever is given a
    falsified answer is told a wrong class. An adversary who leaves out what does not fit learns from the rest.
    """

    share: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Of the client's own rows, whose answers are falsified; of other images about as many."""

    def answer_by_search(self, lesson: Lesson) -> Answer:
        """Among true answers: most are, so that is what a falsified one joins."""
        directions, step = lesson.directions(lesson.seen), unit(self.budget, None, self.norm)
        steep = steepness(lesson, directions, lesson.seen, lesson.images).quantile(1 - self.share)

        def chosen(images: Tensor, confidences: Tensor) -> Tensor:
            return steepness(lesson, directions, confidences, images) >= steep

        def falsified(images: Tensor, confidences: Tensor) -> Tensor:
            false = swapped(confidences, misleading(lesson, directions, confidences, images))
            return self.searched(partial(lesson.effect, directions, images=images), false, step, self.budget)

        return _where(chosen, falsified)

    def answer_at_once(self, lesson: Lesson, seeds: Seeds) -> Answer:
        """By one network that chooses answers and classes as the search did for the client's own rows, and another one
        that changes these further for what the search minimises."""
        directions, step = lesson.directions(lesson.seen), unit(self.budget, None, self.norm)
        steep = steepness(lesson, directions, lesson.seen, lesson.images)
        named = misleading(lesson, directions, lesson.seen, lesson.images)
        choice = train_flip_choice(lesson.seen, steep, named, self.training.steps, seeds)
        # By what the network makes of them, so that it is this share of them whatever it has learned.
        least = choice.gains(lesson.seen).quantile(1 - self.share)

        def effect(released: Tensor, rows: Tensor) -> Tensor:
            return lesson.effect(directions, released, lesson.images[rows]) / len(rows)

        change = self.training.run(swapped(lesson.seen, choice.named(lesson.seen)), effect, step, seeds)

        def falsified(_: Tensor, confidences: Tensor) -> Tensor:
            false = swapped(confidences, choice.named(confidences))
            return step(false, change(false))

        return _where(lambda _, confidences: choice.gains(confidences) >= least, falsified)


def _where(chosen: Callable[[Tensor, Tensor], Tensor], falsified: Answer) -> Answer:
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
