"""A network that makes the change of an answer in one pass: a variational autoencoder (Kingma and Welling, ICLR 2014)
from confidences to changes, trained for what a search would have found."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedsplit.layers.lesson import Lesson
from fedsplit.layers.surrogate import Reading
from fedsplit.numerics.gaussian_divergence import divergence_from_standard
from fedsplit.numerics.poisoning import Step
from fedsplit.seeding import Seeds

_HIDDEN = 64
_BATCH = 64
_RATE = 0.003


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

    def run(self, lesson: Lesson, step: Step, seeds: Seeds) -> Callable[[Tensor], Tensor]:
        """A trained generator, without a graph."""
        with seeds.fork("generator"):
            generator = PoisonGenerator(lesson.seen, self.code, self.budget).to(lesson.seen)
        optimizer, rng = torch.optim.Adam(generator.parameters(), lr=_RATE), seeds("generator training")
        for _ in range(self.steps):
            rows = torch.randperm(len(lesson.seen), generator=rng)[:_BATCH].to(lesson.seen.device)
            noise = torch.randn((len(rows), self.code), generator=rng).to(lesson.seen)
            with torch.enable_grad():
                loss = self._loss(generator, lesson, step, rows, noise)
                optimizer.zero_grad()
                loss.backward()
            optimizer.step()
        generator.requires_grad_(requires_grad=False)
        return generator

    def _loss(self, generator: PoisonGenerator, lesson: Lesson, step: Step, rows: Tensor, noise: Tensor) -> Tensor:
        seen, images = lesson.seen[rows], lesson.images[rows]
        mean, deviation = generator.code(seen)
        change = generator.changes(seen, mean + deviation * noise)
        misaligned = lesson.misalignment(step(seen, change), images)
        divergence = divergence_from_standard(mean, deviation).mean()
        return misaligned + self.divergence * divergence + self.length * change.abs().sum(dim=1).mean() / self.budget
