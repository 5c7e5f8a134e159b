"""What the defenses have in common that poison what is seen of deployed clients (after Zhou, Ye, Zhu and Zhou)."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Generator, Tensor

from fedsplit.defenses.base import Answer, Defense, Deployed
from fedsplit.layers.lesson import Lesson, prepare_lesson
from fedsplit.layers.poison_generator import GeneratorTraining
from fedsplit.numerics.poisoning import Norm, Step, minimised
from fedsplit.records.images import Holding
from fedsplit.seeding import Seeds
from fedsplit.split import Segments

_GENERATED = 4
"""Steps of a network that is trained, in those of a search."""


class Poison(Defense):
    """Deployed clients change a little of what is seen of them, so that an inversion network which learns from it
    learns to rebuild worse: what to change is found by such networks, which each client trains itself. Abstract as
    `Defense` is: a member says what is changed."""

    steps: PositiveInt = 100
    """Of Adam, for the client's own rows, and for each one that is searched for afterwards."""
    rate: PositiveFloat = 0.05
    """Of Adam, as a share of the budget."""
    passes: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0, 20)
    """Over the client's rows, after which the networks are looked at; 0 is as they were drawn."""
    rows: PositiveInt = 128
    """That a client plays the adversary with, at most; as many others are those it protects."""

    def lesson(self, seen: Tensor, data: Holding, seeds: Seeds, *, logarithms: bool) -> Lesson:
        """Of the client's own rows. seen: (n, *seen), what is seen of them. logarithms: whether some networks read
        it so, as confidences."""
        return prepare_lesson(seen, data.pixels, self.passes, self.rows, seeds, logarithms=logarithms)

    def searched(
        self, objective: Callable[[Tensor], Tensor], clean: Tensor, step: Step, scale: Tensor | float
    ) -> Tensor:
        """What `step` makes of the change of `clean` that lowers the objective most; as `minimised` has it."""
        return minimised(objective, clean, step, scale, self.steps, self.rate)


class AnswerPoison(Poison):
    """The same of answers, on the simplex. Abstract as `Poison` is."""

    budget: Annotated[float, Field(gt=0, le=2)] = 0.2
    """How far an answer may move, in units of confidence, besides any exchange of two of its entries."""
    norm: Norm = "sum"
    """What of the change is at most the budget: the sum of its magnitudes over classes, or the largest of them."""
    generator: bool = False
    """Whether networks that were trained for it, in four times as many steps, make the changes in one pass, from the
    answer without the image."""

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
        lesson = self.lesson(confidences, data, seeds, logarithms=True)
        answer = self.answer_at_once(lesson, seeds) if self.generator else self.answer_by_search(lesson)
        return Deployed(release=self.released("inference").release, answer=answer)

    @property
    def training(self) -> GeneratorTraining:
        """Of a network that makes changes."""
        return GeneratorTraining(self.budget, steps=_GENERATED * self.steps)

    @abstractmethod
    def answer_by_search(self, lesson: Lesson) -> Answer:
        """As gradients through the client's networks have it."""

    @abstractmethod
    def answer_at_once(self, lesson: Lesson, seeds: Seeds) -> Answer:
        """Without gradients, and without the images."""
