"""Random zeros at the cut, at inference too (He, Zhang, Lee, IEEE Internet of Things Journal 2020)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Generator, Tensor

from fedsplit.defenses.base import Defense


class DropoutAtCut(Defense):
    """Sets every activation to zero with probability `rate`, anew at every release, and leaves the others as they are.

    Unlike the dropout of a network it goes on after training. An adversary who can ask for the same image again sees,
    after a few answers, every activation.
    """

    rate: Annotated[float, Field(gt=0, lt=1)]
    """Probability of a zero."""

    def release(self, smashed: Tensor, rng: Generator) -> Tensor:
        """(n, *cut shape) -> the same shape. The gradient passes where a value did."""
        drawn = torch.rand(smashed.shape, generator=rng, device=rng.device, dtype=smashed.dtype)
        return smashed * (drawn >= self.rate).to(smashed)
