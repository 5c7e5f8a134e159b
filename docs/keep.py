"""A metric that keeps what it is shown: how `docs/refresh.py` gets at images and guesses of a real run."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from fedsplit.layers.evaluator import Evaluator
from fedsplit.metrics.base import Measurement, Metric
from fedsplit.records.truth import Truth


@dataclass
class Kept:
    """The private images, and every guess at them in the order in which they were scored."""

    truth: Tensor = field(default_factory=lambda: torch.zeros(0))
    guesses: list[Tensor] = field(default_factory=list)


KEPT = Kept()


class Keep(Metric):
    """Scores nothing."""

    unit: ClassVar[str] = ""
    more_leaks: ClassVar = "higher"

    def measure(self, truth: Truth, guess: Tensor, evaluator: Evaluator | None) -> Measurement:
        """Every value is 0."""
        del evaluator
        KEPT.truth = truth.images
        KEPT.guesses.append(guess)
        return Measurement(torch.zeros(len(guess)))
