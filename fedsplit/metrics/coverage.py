"""How much of the private images' variety guesses at their classes show (Naeem, Oh, Uh, Choi and Yoo, "Reliable
fidelity and diversity metrics for generative models", ICML 2020)."""

from typing import ClassVar, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from fedsplit.layers.evaluator import Evaluator
from fedsplit.metrics.base import Measurement, Metric
from fedsplit.records.leak import Level
from fedsplit.records.truth import Truth


class Coverage(Metric):
    """The share of private images that have a guess at their class nearer than their few nearest private neighbours of
    the class, in features of the independent evaluator. Of each class as many private images are taken as there are
    guesses, so that as many more of their kind would cover nearly all."""

    levels: ClassVar[frozenset[Level]] = frozenset({"class"})
    unit: ClassVar[str] = ""
    more_leaks: ClassVar[Literal["higher", "lower"]] = "higher"

    neighbours: PositiveInt = 3
    """Which of its nearest neighbours tells how far from an image a guess still covers it."""

    @property
    def evaluated(self) -> bool:
        """Always."""
        return True

    def measure(self, truth: Truth, guess: Tensor, evaluator: Evaluator | None) -> Measurement:
        """values: (targets,), whether the private image in the place of the guess is covered by any guess, 1 or 0."""
        assert evaluator is not None, "asked for by `evaluated`"
        private, guessed = evaluator.features(truth.images).double(), evaluator.features(guess).double()
        wanted, values = truth.labels.cpu(), torch.zeros(len(guess), dtype=torch.float64)
        for label in wanted.unique():
            own = wanted == label
            # One that is there twice would be its own neighbour, and nothing ever near enough.
            distinct = _first_of_each(truth.images[own])
            among = torch.cdist(private[own], private[own][distinct]).sort(dim=1).values
            # The nearest of all is the image itself.
            reach = among[:, min(self.neighbours, among.shape[1] - 1)]
            values[own] = (torch.cdist(private[own], guessed[own]).min(dim=1).values <= reach).double()
        return Measurement(values)


def _first_of_each(images: Tensor) -> Tensor:
    """(n, ...) -> (k,), where each image is that is in none of the places before."""
    _, same = images.flatten(1).unique(dim=0, return_inverse=True)
    return torch.tensor([place for place, one in enumerate(same.tolist()) if one not in same[:place]])
