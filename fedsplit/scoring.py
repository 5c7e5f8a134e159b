"""Every metric on every guess at one truth, and the anchors: what trivial guesses would score."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from fedsplit.errors import blaming
from fedsplit.layers.evaluator import Evaluator
from fedsplit.metrics.base import Measurement, Metric
from fedsplit.numerics.bootstrap import interval
from fedsplit.numerics.principal import principal_components
from fedsplit.records.exhibit import Exhibit
from fedsplit.records.leak import Auxiliary
from fedsplit.records.outcome import Score
from fedsplit.records.truth import Truth
from fedsplit.seeding import Seeds

MEAN_IMAGE = "mean_image"
"""The anchor to beat: it takes no leak at all."""

UNGUIDED = "unguided"
"""The anchor to beat for an attacker who would have guessed otherwise without a leak, as by a generator's samples."""

_MAPPED = 30
"""Principal components in an exhibit: two are drawn, and neighbours in so many are neighbours in all, near enough."""


@dataclass(frozen=True)
class Scoreboard:
    """Scores guesses at `truth`. Images are clamped to [0, 1] here, once, for all metrics."""

    metrics: Sequence[Metric]
    truth: Truth
    evaluator: Evaluator | None
    seeds: Seeds

    def measure(self, metric: Metric, guess: Tensor) -> Measurement:
        """guess: (targets, channels, height, width). Raises EngineError where the metric fails."""
        with blaming(f"metric {metric.name}"):
            return metric.measure(self.truth, guess.to(self.truth.images).clamp(0, 1), self.evaluator)

    def score(self, metric: Metric, guess: Tensor, *, given_classes: bool = False) -> Score:
        """The metric with its 95 % interval over images; where the targets are classes, over classes and the guesses
        at each, for these are about as right as each other.

        given_classes: over guesses alone: what the same attack might have scored at the same classes.
        """
        measurement = self.measure(metric, guess)
        rng = self.seeds("bootstrap", metric.name)
        with blaming(f"metric {metric.name}"):
            clusters = [self.truth.labels] if self.truth.population is not None and not given_classes else None
            found = interval([measurement.values], measurement.statistic, rng, measurement.resamples, clusters)
        return Score(
            mean=_finite(found.mean),
            low=_finite(found.low),
            high=_finite(found.high),
            unit=metric.unit,
            more_leaks=metric.more_leaks,
        )

    def scores(self, guess: Tensor) -> dict[str, Score]:
        """All metrics by name."""
        return {metric.name: self.score(metric, guess) for metric in self.metrics}

    def means(self, guess: Tensor) -> dict[str, float | None]:
        """All metrics by name, without intervals."""
        return {metric.name: self._mean(metric, guess) for metric in self.metrics}

    def exhibit(
        self, headline: Metric, guess: Tensor, auxiliary: Auxiliary, smashed: Tensor, clean: Tensor | None = None
    ) -> Exhibit:
        """The targets that leak most, in the middle, and least, by the headline; a map of what was released of all.

        smashed: (targets, *cut shape). clean: the same, had the deployed clients changed nothing.
        """
        released = smashed.detach().cpu().flatten(1)
        before = None if clean is None else clean.detach().cpu().flatten(1)
        if before is not None and torch.equal(before, released):
            before = None
        measured = {metric.name: self.measure(metric, guess) for metric in self.metrics}
        sign = -1 if headline.more_leaks == "higher" else 1
        order = (sign * measured[headline.name].values).argsort(stable=True)
        picks = torch.stack([order[0], order[len(order) // 2], order[-1]])
        return Exhibit(
            values=tuple(
                (metric.name, measured[metric.name].values.float()) for metric in self.metrics if metric.per_target
            ),
            nearest=nearest(self.truth, auxiliary)[0].float(),
            picks=(int(picks[0]), int(picks[1]), int(picks[2])),
            private=self.truth.images[picks].float(),
            anchor=mean_image(self.truth, auxiliary)[picks].float(),
            reconstruction=guess[picks.to(guess.device)].cpu().clamp(0, 1).float(),
            map=principal_components(released, _MAPPED, before).float(),
            labels=self.truth.labels,
            clean=None if before is None else principal_components(before, _MAPPED).float(),
        )

    def _mean(self, metric: Metric, guess: Tensor) -> float | None:
        measurement = self.measure(metric, guess)
        with blaming(f"metric {metric.name}"):
            # A statistic of a whole set may raise, or hide that something was not finite.
            known = bool(measurement.values.isfinite().all())
            return _finite(measurement.statistic(measurement.values)) if known else None


def anchors(truth: Truth, auxiliary: Auxiliary, ideal: Auxiliary, rng: Generator) -> Mapping[str, Tensor]:
    """Trivial guesses by name, of an adversary with these images. The oracles use what no attacker has: the truth, and
    where classes are rebuilt real images of them.

    ideal: images like the clients', which nobody trained on."""
    common = {MEAN_IMAGE: mean_image(truth, auxiliary), "class_mean_oracle": _class_mean(truth, auxiliary)}
    if truth.population is None:
        return {**common, "nearest_auxiliary_oracle": nearest(truth, auxiliary)[1]}
    images, labels = ideal.images.cpu(), ideal.labels.cpu()
    return {**common, "real_images_oracle": images[of_classes(labels, truth.labels, rng)].to(truth.images)}


def of_classes(labels: Tensor, wanted: Tensor, rng: Generator) -> Tensor:
    """(n,), (k,) -> (k,): rows of the wanted labels, drawn without repeating one before all of its label are used; any
    row for a label that nobody has."""
    order = torch.randperm(len(labels), generator=rng)
    places = torch.empty(len(wanted), dtype=torch.long)
    for label in wanted.unique():
        asked, own = (wanted == label).nonzero().squeeze(1), order[labels[order] == label]
        found = own if len(own) else order
        places[asked] = found[torch.arange(len(asked)) % len(found)]
    return places


def mean_image(truth: Truth, auxiliary: Auxiliary) -> Tensor:
    """(targets, channels, height, width): the mean auxiliary image for every target."""
    return auxiliary.images.cpu().mean(dim=0).expand_as(truth.images)


def nearest(truth: Truth, auxiliary: Auxiliary) -> tuple[Tensor, Tensor]:
    """For each target, the root mean square distance to the nearest auxiliary image, and that image."""
    known = auxiliary.images.cpu().to(truth.images)
    distances = torch.cdist(truth.images.flatten(1), known.flatten(1))
    found = distances.min(dim=1)
    return found.values / truth.images[0].numel() ** 0.5, known[found.indices]


def _class_mean(truth: Truth, auxiliary: Auxiliary) -> Tensor:
    images, labels = auxiliary.images.cpu(), auxiliary.labels.cpu()
    overall = images.mean(dim=0)
    present = {int(label) for label in labels.unique()}
    means = {label: images[labels == label].mean(dim=0) for label in present}
    return torch.stack([means.get(int(label), overall) for label in truth.labels]).to(truth.images)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
