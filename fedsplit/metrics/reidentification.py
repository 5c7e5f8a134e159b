"""Re-identification: which of all private images does a reconstruction point at?"""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from fedsplit.layers.evaluator import Evaluator
from fedsplit.metrics.base import Measurement, Metric
from fedsplit.records.truth import Truth

_BATCH = 1024
_TIE = 1e-10
"""Squared distances this close, relative to the squared lengths, are equal but for rounding. Two 28 x 28 images that
differ by one grey level in one pixel are ten times further apart."""


class Reidentification(Metric):
    """The share of reconstructions whose nearest image, of all targets, is their own (top-1).

    Brightness or contrast that is off, or a class mean that looks fair, does not count here. A guess at equal distance
    from k targets counts 1/k, so guesses that are all alike score 1/N. It also bounds the leak in bits from below:
    with N targets and top-1 rate p, Fano's inequality (1961) gives I(image; guess) >= p log2(N) - 1.
    Rates belong to their N; compare only such of the same N.
    """

    unit: ClassVar[str] = "top-1"
    more_leaks: ClassVar[Literal["higher", "lower"]] = "higher"

    by: Literal["pixels", "features"] = "pixels"
    """What Euclidean distances are taken between: pixels, or features of the independent evaluator."""

    @property
    def name(self) -> str:
        """Says what the distances are taken between."""
        return f"{self.kind}_{self.by}"

    @property
    def evaluated(self) -> bool:
        """Only features need the evaluator."""
        return self.by == "features"

    def measure(self, truth: Truth, guess: Tensor, evaluator: Evaluator | None) -> Measurement:
        """values: (targets,), 1 where the guess finds its own target alone, 1/k where it finds k at once, else 0."""
        if self.by == "features":
            assert evaluator is not None, "asked for by `evaluated`"
            return Measurement(_hits(evaluator.features(truth.images), evaluator.features(guess)))
        return Measurement(_hits(truth.images.flatten(1), guess.flatten(1)))


def _hits(gallery: Tensor, probes: Tensor) -> Tensor:
    """(n, width), (n, width) -> (n,)."""
    gallery, probes = gallery.double().cpu(), probes.double().cpu()
    own = torch.arange(len(gallery))
    batches = zip(probes.split(_BATCH), own.split(_BATCH), strict=True)
    return torch.cat([_hits_of_batch(gallery, batch, rows) for batch, rows in batches])


def _hits_of_batch(gallery: Tensor, probes: Tensor, own: Tensor) -> Tensor:
    scale = probes.square().sum(1, keepdim=True) + gallery.square().sum(1)
    distances = scale - 2 * probes @ gallery.T
    nearest = distances <= distances.min(1, keepdim=True).values + _TIE * scale
    found = nearest.gather(1, own[:, None]).squeeze(1)
    return found / nearest.sum(1)
