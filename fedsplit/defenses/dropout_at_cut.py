"""Random zeros at the cut, at inference too (He, Zhang, Lee, IEEE Internet of Things Journal 2020)."""

from typing import Annotated

from pydantic import Field
from torch import Generator, Tensor

from fedsplit.defenses.base import Defense
from fedsplit.numerics.uniform import uniform


class DropoutAtCut(Defense):
    """Sets every activation to zero with probability `rate`, anew at every release, and leaves the others as they are.

    Unlike the dropout of a network it goes on after training. An adversary who can ask for the same image again sees,
    after a few answers, every activation.
    """

    rate: Annotated[float, Field(gt=0, lt=1)]
    """Probability of a zero."""

    def release(self, smashed: Tensor, rng: Generator) -> Tensor:
        """(n, *cut shape) -> the same shape. The gradient passes where a value did."""
        return smashed * (uniform(smashed, rng) >= self.rate)
