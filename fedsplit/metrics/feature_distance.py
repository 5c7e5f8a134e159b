"""How near guesses at a class come to some private image of it (as Zhang, Jia, Pei, Wang, Li and Song, "The secret
revealer", CVPR 2020, measure it)."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from fedsplit.layers.evaluator import Evaluator
from fedsplit.metrics.base import Measurement, Metric
from fedsplit.records.leak import Level
from fedsplit.records.truth import Truth


class FeatureDistance(Metric):
    """The mean squared distance, per feature of the independent evaluator, from a guess to the nearest of all private
    images of the class that it is to show. Features have unit variance over the evaluation rows, so that two images
    drawn at random are 2 apart."""

    levels: ClassVar[frozenset[Level]] = frozenset({"class"})
    unit: ClassVar[str] = ""
    more_leaks: ClassVar[Literal["higher", "lower"]] = "lower"

    @property
    def evaluated(self) -> bool:
        """Always."""
        return True

    def measure(self, truth: Truth, guess: Tensor, evaluator: Evaluator | None) -> Measurement:
        """values: (targets,)."""
        assert evaluator is not None and truth.population is not None, "asked for by `evaluated` and `levels`"
        images, labels = truth.population
        private, guessed = evaluator.features(images).double(), evaluator.features(guess).double()
        wanted, values = truth.labels.cpu(), torch.empty(len(guess), dtype=torch.float64)
        for label in wanted.unique():
            own = torch.cdist(guessed[wanted == label], private[labels.cpu() == label])
            values[wanted == label] = own.min(dim=1).values.square() / private.shape[1]
        return Measurement(values)
