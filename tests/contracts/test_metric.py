"""What every metric promises, on digits, grey and colour images; a plug-in passes it by being added to SETTINGS."""

import math
from functools import lru_cache
from typing import Any

import pytest
import torch
import yaml
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from fedsplit.layers.evaluator import Evaluator, train_evaluator
from fedsplit.metrics.base import METRICS, AnyMetric, Metric
from fedsplit.records.images import Shape
from fedsplit.records.truth import Truth
from fedsplit.seeding import Seeds
from tests.metrics.pictures import pictures, truth_of

SETTINGS: list[dict[str, Any]] = [{"kind": kind} for kind in METRICS.shipped] + [
    {"kind": "reidentification", "by": "features"}
]
SHAPES: list[Shape] = [(1, 8, 8), (1, 28, 28), (3, 32, 32)]
TARGETS = 60

metrics: TypeAdapter[Metric] = TypeAdapter(AnyMetric)


@pytest.fixture(params=SETTINGS, ids=lambda settings: "-".join(settings.values()))
def metric(request: pytest.FixtureRequest) -> Metric:
    return metrics.validate_python(request.param)


@pytest.fixture(params=SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def shape(request: pytest.FixtureRequest) -> Shape:
    return request.param


@lru_cache
def judge(shape: Shape) -> Evaluator:
    return train_evaluator(pictures(100, shape, seed=1), Seeds(0))


def leaked(metric: Metric, truth: Truth, guess: Tensor) -> float:
    """The score, turned so that more is more."""
    evaluator = judge(tuple(truth.images.shape[1:])) if metric.evaluated else None
    measurement = metric.measure(truth, guess, evaluator)
    assert len(measurement.values) == len(truth.images)
    assert measurement.values.device.type == "cpu"
    score = measurement.statistic(measurement.values)
    assert math.isfinite(score)
    return score if metric.more_leaks == "higher" else -score


def test_a_perfect_guess_leaks_most_and_the_mean_image_least(metric: Metric, shape: Shape):
    truth = truth_of(pictures(TARGETS, shape, seed=0))
    mean = pictures(100, shape, seed=1).pixels.mean(0).expand_as(truth.images)
    scores = [leaked(metric, truth, mean + share * (truth.images - mean)) for share in (1, 0.7, 0)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1]


def test_a_guess_at_another_target_is_no_guess(metric: Metric, shape: Shape):
    truth = truth_of(pictures(TARGETS, shape, seed=0))
    perfect, swapped = leaked(metric, truth, truth.images), leaked(metric, truth, truth.images.roll(1, 0))
    if metric.per_target:
        assert perfect > swapped
    else:
        assert perfect == pytest.approx(swapped, abs=1e-6)


def test_values_belong_to_their_targets(metric: Metric, shape: Shape):
    truth = truth_of(pictures(TARGETS, shape, seed=0))
    guess = pictures(TARGETS, shape, seed=2).pixels.lerp(truth.images, 0.6)
    order = torch.randperm(TARGETS, generator=torch.Generator().manual_seed(0))
    evaluator = judge(shape) if metric.evaluated else None
    straight = metric.measure(truth, guess, evaluator).values
    elsewhere = Truth(truth.images[order], truth.labels[order], truth.population)
    moved = metric.measure(elsewhere, guess[order], evaluator).values
    torch.testing.assert_close(moved, straight[order], rtol=1e-4, atol=1e-4)


def test_nothing_given_is_changed(metric: Metric):
    images = pictures(TARGETS, (1, 8, 8), seed=0)
    guess = pictures(TARGETS, (1, 8, 8), seed=2).pixels
    before = images.pixels.clone(), guess.clone()
    leaked(metric, truth_of(images), guess)
    assert torch.equal(images.pixels, before[0])
    assert torch.equal(guess, before[1])


def test_one_target_has_a_score(metric: Metric):
    truth = truth_of(pictures(1, (1, 8, 8), seed=0))
    leaked(metric, truth, truth.images * 0.5)


def test_a_number_per_target_where_it_says_so(metric: Metric):
    truth = truth_of(pictures(TARGETS, (1, 8, 8), seed=0))
    values = metric.measure(truth, truth.images, judge((1, 8, 8)) if metric.evaluated else None).values
    assert (values.dim() == 1) == metric.per_target


def test_it_survives_yaml(metric: Metric):
    text = yaml.safe_dump(metrics.dump_python(metric, mode="json"))
    assert metrics.validate_python(yaml.safe_load(text)) == metric


def test_it_refuses_an_unknown_key(metric: Metric):
    with pytest.raises(ValidationError, match="surprise"):
        metrics.validate_python({"kind": metric.kind, "surprise": 1})


def test_names_are_distinct():
    names = [metrics.validate_python(settings).name for settings in SETTINGS]
    assert len(set(names)) == len(names)
