"""Label-preserving poisoning of confidence vectors (LPA: Zhou, Ye, Zhu and Zhou; rebuilt from their abstract, with the
inversion networks of Yang, Zhang, Chang and Liang, CCS 2019)."""

from functools import partial

from pydantic import NonNegativeFloat
from torch import Tensor

from fedsplit.defenses.base import Answer
from fedsplit.defenses.poison_base import AnswerPoison
from fedsplit.layers.lesson import Lesson
from fedsplit.numerics.poisoning import Step, unit
from fedsplit.seeding import Seeds


class PoisonPreserving(AnswerPoison):
    """Changes every answer a little, so that an inversion network that learns from answers learns to rebuild worse.

    Once training is over, each client trains such networks on half of its rows, and finds for these the changed answers
    whose training gradient is nearest to the one that would make the other half's images worse. Whatever it is asked
    from then on it changes as if it were one more of those rows: an answer depends on its own image alone, and is the
    same whenever it is asked for. The largest confidence stays the largest, so that no accuracy is lost. An adversary
    who learns from the changed answers learns what undoes them as well as it can be undone.
    """

    margin: NonNegativeFloat = 0.01
    """By how much the largest confidence stays ahead of every other, or by as much as it was where that is less."""

    def answer_by_search(self, lesson: Lesson) -> Answer:
        """Among the poisoned answers of the client's own rows."""
        step = self._step
        own = self.searched(partial(lesson.misalignment, images=lesson.images), lesson.seen, step, self.budget)
        directions = lesson.directions(own)

        def answer(images: Tensor, confidences: Tensor) -> Tensor:
            return self.searched(partial(lesson.effect, directions, images=images), confidences, step, self.budget)

        return answer

    def answer_at_once(self, lesson: Lesson, seeds: Seeds) -> Answer:
        """By one network, which changes the client's own rows for what the search minimises."""
        step = self._step

        def misalignment(released: Tensor, rows: Tensor) -> Tensor:
            return lesson.misalignment(released, lesson.images[rows])

        change = self.training.run(lesson.seen, misalignment, step, seeds)
        return lambda _, confidences: step(confidences, change(confidences))

    @property
    def _step(self) -> Step:
        return unit(self.budget, self.margin, self.norm)
