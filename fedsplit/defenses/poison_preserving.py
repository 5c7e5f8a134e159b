"""Label-preserving poisoning of confidence vectors (LPA: Zhou, Ye, Zhu and Zhou; rebuilt from their abstract, with the
inversion networks of Yang, Zhang, Chang and Liang, CCS 2019)."""

from functools import partial
from typing import Annotated

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Generator, Tensor

from fedsplit.defenses.base import Answer, Defense, Deployed
from fedsplit.layers.lesson import Lesson, prepare_lesson
from fedsplit.layers.poison_generator import GeneratorTraining
from fedsplit.numerics.poisoning import Norm, Step, minimised, unit
from fedsplit.records.images import Holding
from fedsplit.seeding import Seeds
from fedsplit.split import Segments

_GENERATED = 4


class PoisonPreserving(Defense):
    """Changes every answer a little, so that an inversion network that learns from answers learns to rebuild worse.

    Once training is over, each client trains such networks on half of its rows, and finds for these the changed answers
    whose training gradient is nearest to the one that would make the other half's images worse. Whatever it is asked
    from then on it changes as if it were one more of those rows: an answer depends on its own image alone, and is the
    same whenever it is asked for. The largest confidence stays the largest, so that no accuracy is lost. An adversary
    who learns from the changed answers learns what undoes them as well as it can be undone.
    """

    budget: Annotated[float, Field(gt=0, le=2)] = 0.2
    """How far an answer may move, in units of confidence."""
    norm: Norm = "sum"
    """What of the change is at most the budget: the sum of its magnitudes over classes, or the largest of them."""
    margin: NonNegativeFloat = 0.01
    """By how much the largest confidence stays ahead of every other, or by as much as it was where that is less."""
    steps: PositiveInt = 100
    """Of Adam, for the client's own answers, and for each one that is asked for; a generator trains for four times as
    many."""
    rate: PositiveFloat = 0.05
    """Of Adam, as a share of the budget."""
    passes: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0, 20)
    """Over the client's rows, after which the networks are looked at; 0 is as they were drawn."""
    rows: PositiveInt = 128
    """That a client plays the adversary with, at most; as many others are those it protects."""
    generator: bool = False
    """Whether a network that was trained for it makes the changes in one pass, from the answer without the image."""

    @property
    def caveat(self) -> str:
        """Where it does nothing."""
        return (
            "changes the answers of the deployed model alone: at the cut, and of hidden features, its row is undefended"
        )

    def deploy(self, model: Segments, data: Holding, rng: Generator) -> Deployed:
        """Prepares on the client's rows; answers are changed, what crosses the cut is not."""
        seeds = Seeds(int(torch.randint(2**62, (), generator=rng)))
        with torch.no_grad():
            confidences = model.whole(data.pixels).softmax(dim=1)
        lesson = prepare_lesson(confidences, data.pixels, self.passes, self.rows, seeds, logarithms=True)
        step = unit(self.budget, self.margin, self.norm)
        answer = self._generated(lesson, step, seeds) if self.generator else self._searched(lesson, step)
        return Deployed(release=self.released.release, answer=answer)

    def _searched(self, lesson: Lesson, step: Step) -> Answer:
        search = partial(minimised, step=step, scale=self.budget, steps=self.steps, rate=self.rate)
        own = search(lambda released: lesson.misalignment(released, lesson.images), lesson.seen)
        directions = lesson.directions(own)

        def answer(images: Tensor, confidences: Tensor) -> Tensor:
            return search(lambda released: lesson.effect(directions, released, images), confidences)

        return answer

    def _generated(self, lesson: Lesson, step: Step, seeds: Seeds) -> Answer:
        def misalignment(released: Tensor, rows: Tensor) -> Tensor:
            return lesson.misalignment(released, lesson.images[rows])

        training = GeneratorTraining(self.budget, steps=_GENERATED * self.steps)
        change = training.run(lesson.seen, misalignment, step, seeds)
        return lambda _, confidences: step(confidences, change(confidences))
