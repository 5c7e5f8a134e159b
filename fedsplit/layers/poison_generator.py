"""A network that makes the change of an answer in one pass: a variational autoencoder (Kingma and Welling, ICLR 2014)
from confidences to changes, trained for what a search would have found."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedsplit.layers.surrogate import Reading
from fedsplit.numerics.gaussian_divergence import divergence_from_standard
from fedsplit.numerics.poisoning import Step
from fedsplit.seeding import Seeds

_HIDDEN = 64
_BATCH = 64
_RATE = 0.003

Objective = Callable[[Tensor, Tensor], Tensor]
"""(released, rows) -> a scalar, the lower the better, where the answers of these rows are released so."""


class PoisonGenerator(nn.Module):
    """(n, classes) confidences -> (n, classes) changes, through a Gaussian code of few numbers."""

    def __init__(self, confidences: Tensor, code: int, size: float) -> None:
        """confidences: of the client's rows. size: of a change, about. Weights come from torch's global generator."""
        super().__init__()
        classes = confidences.shape[1]
        self.size = size
        self.reading = Reading(confidences, logarithms=True)
        self.encoder = nn.Sequential(nn.Linear(2 * classes, _HIDDEN), nn.Tanh(), nn.Linear(_HIDDEN, 2 * code))
        self.decoder = nn.Sequential(nn.Linear(2 * classes + code, _HIDDEN), nn.Tanh(), nn.Linear(_HIDDEN, classes))

    def code(self, confidences: Tensor) -> tuple[Tensor, Tensor]:
        """(n, classes) -> mean and deviation, (n, code) each."""
        mean, logarithm = self.encoder(self._read(confidences)).chunk(2, dim=1)
        return mean, logarithm.exp()

    def changes(self, confidences: Tensor, code: Tensor) -> Tensor:
        """(n, classes) and (n, code) -> (n, classes)."""
        return self.size * self.decoder(torch.cat([self._read(confidences), code], dim=1))

    def forward(self, confidences: Tensor) -> Tensor:
        """With the mean of the code: the same change whenever it is asked for."""
        return self.changes(confidences, self.code(confidences)[0])

    def _read(self, confidences: Tensor) -> Tensor:
        return torch.cat([confidences, self.reading(confidences)], dim=1)


@dataclass(frozen=True)
class GeneratorTraining:
    """budget: of a change. steps: of Adam. code: numbers in it. divergence: price of a nat of the code, length: of a
    change's sum of magnitudes in units of the budget, beside a misalignment between 0 and 2."""

    budget: float
    steps: int
    code: int = 16
    divergence: float = 0.001
    length: float = 0.001

    def run(self, clean: Tensor, objective: Objective, step: Step, seeds: Seeds) -> Callable[[Tensor], Tensor]:
        """A generator of changes that lower the objective, as `step` makes them, of the answers (n, classes); without a
        graph."""
        with seeds.fork("generator"):
            generator = PoisonGenerator(clean, self.code, self.budget).to(clean)
        optimizer, rng = torch.optim.Adam(generator.parameters(), lr=_RATE), seeds("generator training")
        for _ in range(self.steps):
            rows = torch.randperm(len(clean), generator=rng)[:_BATCH].to(clean.device)
            noise = torch.randn((len(rows), self.code), generator=rng).to(clean)
            with torch.enable_grad():
                mean, deviation = generator.code(clean[rows])
                change = generator.changes(clean[rows], mean + deviation * noise)
                value = objective(step(clean[rows], change), rows)
                loss = value + self._price(mean, deviation, change)
                optimizer.zero_grad()
                loss.backward()
            optimizer.step()
        generator.requires_grad_(requires_grad=False)
        return generator

    def _price(self, mean: Tensor, deviation: Tensor, change: Tensor) -> Tensor:
        divergence = divergence_from_standard(mean, deviation).mean()
        return self.divergence * divergence + self.length * change.abs().sum(dim=1).mean() / self.budget
