"""The Frechet distance of images: whose features, which file, and what it cannot see."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn

from fedsplit.errors import EngineError
from fedsplit.layers.evaluator import Evaluator
from fedsplit.layers.inception import untrained_inception
from fedsplit.metrics.fid import Fid
from fedsplit.records.truth import Truth
from tests.metrics.pictures import noisy, pictures, truth_of

PIXELS = Evaluator(nn.Flatten(), nn.Identity(), 1.0)


def test_closed_form_of_a_shift_and_a_scale():
    images = pictures(200, (1, 4, 4), seed=0).pixels.double()
    measurement = Fid().measure(Truth(images, torch.zeros(200)), 0.5 * images + 0.1, PIXELS)
    # The evaluator works in float32.
    spread = float(torch.cov(images.flatten(1).T).trace())
    shift = float((0.5 * images.flatten(1).mean(0) - 0.1).square().sum())
    assert measurement.statistic(measurement.values) == pytest.approx(0.25 * spread + shift, rel=1e-5)


def test_it_is_blind_to_the_order():
    images = pictures(60, (1, 4, 4), seed=0)
    measurement = Fid().measure(truth_of(images), images.pixels.roll(7, 0), PIXELS)
    assert measurement.statistic(measurement.values) == pytest.approx(0, abs=1e-9)
    assert not Fid.per_target


def test_few_images_of_one_source_are_apart_and_more_are_nearer():
    def between(count: int) -> float:
        first, second = pictures(count, (1, 4, 4), seed=1), pictures(count, (1, 4, 4), seed=2)
        measurement = Fid().measure(truth_of(first), second.pixels, PIXELS)
        return measurement.statistic(measurement.values)

    assert between(20) > between(2000) > 0


def test_with_weights_the_features_are_inceptions(tmp_path: Path):
    weights = tmp_path / "inception.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(untrained_inception().state_dict(), weights)
    metric = Fid(weights=weights)
    assert (metric.name, metric.evaluated) == ("fid_inception", False)
    images = pictures(3, (1, 8, 8), seed=0)
    perfect = metric.measure(truth_of(images), images.pixels, None)
    worse = metric.measure(truth_of(images), noisy(images.pixels, 0.5), None)
    assert perfect.values.shape == (3, 2 * 2048)
    assert perfect.statistic(perfect.values) == pytest.approx(0, abs=1e-9)
    # Untrained features are minute, so they are compared rather than measured.
    assert torch.equal(*perfect.values.chunk(2, dim=1))
    assert not torch.equal(*worse.values.chunk(2, dim=1))


def test_a_missing_file_is_refused_with_the_settings(tmp_path: Path):
    with pytest.raises(ValidationError, match="no such file"):
        Fid(weights=tmp_path / "nowhere.safetensors")


def test_a_file_of_something_else_is_refused_in_one_line(tmp_path: Path):
    images = pictures(3, (1, 8, 8), seed=0)
    nonsense, other = tmp_path / "nonsense", tmp_path / "other"
    nonsense.write_text("not weights")
    save_file({"weight": torch.zeros(1)}, other)
    for weights in (nonsense, other):
        with pytest.raises(EngineError, match="does not hold the Inception weights"):
            Fid(weights=weights).measure(truth_of(images), images.pixels, None)
