"""Frechet distance between the features of the private images and of the guesses (Heusel et al. 2017)."""

from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import field_validator
from safetensors import SafetensorError
from torch import Tensor, nn

from fedsplit.errors import EngineError
from fedsplit.layers.evaluator import Evaluator
from fedsplit.layers.inception import inception, pooled_features
from fedsplit.metrics.base import Measurement, Metric
from fedsplit.numerics.frechet import frechet_distance
from fedsplit.records.leak import Level
from fedsplit.records.truth import Truth


class Fid(Metric):
    """Compares two sets, never an image with its own guess: guesses in another order score the same, and a guess that
    shows other people's faces well scores well.

    With few images it is biased upwards, by an amount that depends on the features' covariance: compare only scores of
    the same features and the same number of targets. Resampled rows repeat images, so the interval sits higher still.
    """

    levels: ClassVar[frozenset[Level]] = frozenset({"instance", "class"})
    unit: ClassVar[str] = ""
    more_leaks: ClassVar[Literal["higher", "lower"]] = "lower"
    per_target: ClassVar[bool] = False

    weights: Path | None = None
    """A safetensors file with the weights `pt_inception-2015-12-05`: scores are the literature's, of 2048 features, and
    an interval takes minutes. Without it the features are those of the independent evaluator."""

    @field_validator("weights")
    @classmethod
    def _must_exist(cls, weights: Path | None) -> Path | None:
        if weights is not None and not weights.is_file():
            raise ValueError("no such file; leave weights out to use the features of the evaluator")
        return weights

    @property
    def name(self) -> str:
        """Says whose features are compared, since distances in different features have nothing in common."""
        return f"{self.kind}_evaluator" if self.weights is None else f"{self.kind}_inception"

    @property
    def evaluated(self) -> bool:
        """Needs the evaluator unless there are weights."""
        return self.weights is None

    def measure(self, truth: Truth, guess: Tensor, evaluator: Evaluator | None) -> Measurement:
        """values: (targets, 2 widths), features of the truth and then of the guess."""
        if self.weights is not None:
            network = _network(self.weights)
            features = [pooled_features(network, images) for images in (truth.images, guess)]
        else:
            assert evaluator is not None, "asked for by `evaluated`"
            features = [evaluator.features(images) for images in (truth.images, guess)]
        return Measurement(torch.cat(features, dim=1).cpu(), _distance_of_halves, resamples=200)


def _distance_of_halves(rows: Tensor) -> float:
    truth, guess = rows.chunk(2, dim=1)
    return frechet_distance(truth, guess)


@lru_cache(maxsize=1)
def _network(weights: Path) -> nn.Module:
    try:
        return inception(weights)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise EngineError(
            f"does not hold the Inception weights ({type(error).__name__})",
            at="metrics.fid.weights",
            value=str(weights),
            remedy="save the state dict of pt_inception-2015-12-05 with safetensors.torch.save_file",
        ) from error
