"""The interval against the closed form of the normal mean, and against distributions small enough to write down."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsplit.numerics import bootstrap
from fedsplit.numerics.bootstrap import SEEDS_FOR_AN_INTERVAL, interval, mean_interval


def mean(values: Tensor) -> float:
    return float(values.double().mean())


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_width_is_that_of_the_normal_mean():
    values = torch.randn(400, generator=rng(1), dtype=torch.float64)
    found = interval([values], mean, rng())
    half = 1.96 * float(values.std(correction=0)) / 20
    assert found.mean == pytest.approx(mean(values), abs=1e-12)
    assert found.low == pytest.approx(found.mean - half, abs=0.08 * half)
    assert found.high == pytest.approx(found.mean + half, abs=0.08 * half)


def test_covers_the_true_mean_about_nineteen_times_in_twenty():
    draws, covered = rng(2), 0
    for seed in range(200):
        found = interval([torch.randn(60, generator=draws)], mean, rng(seed), resamples=200)
        covered += found.low <= 0 <= found.high
    # 0.95 less the known shortfall of 60 images and 200 resamples, three standard errors to each side.
    assert 0.88 <= covered / 200 <= 0.985


def test_three_trainings_are_resampled_too():
    # Constant inside, so a replicate is the mean of three draws from {0, 1, 2}: each end has probability 1/27 > 2.5 %.
    samples = [torch.full((30,), float(training)) for training in range(3)]
    found = interval(samples, mean, rng())
    assert (found.mean, found.low, found.high) == (1, 0, 2)


def test_two_trainings_say_something_about_images_only():
    samples = [torch.full((30,), float(training)) for training in range(SEEDS_FOR_AN_INTERVAL - 1)]
    found = interval(samples, mean, rng())
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)


def test_trainings_weigh_alike_whatever_their_number_of_images():
    assert interval([torch.zeros(100), torch.ones(1)], mean, rng(), resamples=10).mean == 0.5


def test_rows_are_resampled_whole():
    def disagreement(rows: Tensor) -> float:
        return float((rows[:, 0] != rows[:, 1]).sum())

    column = torch.arange(50.0)
    found = interval([torch.stack([column, column], dim=1)], disagreement, rng(), resamples=50)
    assert (found.mean, found.low, found.high) == (0, 0, 0)


@given(shift=st.floats(-100, 100), scale=st.floats(0.1, 10))
@settings(max_examples=15)
def test_moves_with_the_values(shift: float, scale: float):
    values = torch.rand(40, generator=rng(3), dtype=torch.float64)
    before = interval([values], mean, rng(), resamples=100)
    after = interval([values * scale + shift], mean, rng(), resamples=100)
    expected = [scale * bound + shift for bound in (before.mean, before.low, before.high)]
    assert [after.mean, after.low, after.high] == pytest.approx(expected, abs=1e-9)


def test_the_stream_decides():
    values = torch.rand(40, generator=rng(3))
    assert interval([values], mean, rng(1)) == interval([values], mean, rng(1))
    assert interval([values], mean, rng(1)) != interval([values], mean, rng(2))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_leave_no_interval(bad: float):
    found = interval([torch.tensor([0.0, 1.0, bad])], mean, rng(), resamples=20)
    assert not math.isfinite(found.mean)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_a_replicate_that_is_not_finite_leaves_no_interval():
    def odds(values: Tensor) -> float:
        ones = float(values.sum())
        return ones / (len(values) - ones) if ones < len(values) else math.inf

    found = interval([torch.tensor([0.0, 1.0])], odds, rng(), resamples=50)
    assert found.mean == 1
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize("trainings", [1, 2, 3, 4])
def test_the_mean_in_one_piece_has_the_interval_of_the_mean(trainings: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bootstrap, "_DRAWN", 1000)
    draws = rng(4)
    samples = [
        torch.randn(size, generator=draws) + training for training, size in enumerate((40, 80, 20, 60)[:trainings])
    ]
    found, expected = mean_interval(samples, rng(), 8000), interval(samples, mean, rng(), 8000)
    assert found.mean == pytest.approx(expected.mean, abs=1e-12)
    width = expected.high - expected.low
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.05 * width)


def test_the_mean_in_one_piece_draws_trainings_as_often_as_they_are_picked():
    samples = [torch.full((30,), float(training)) for training in range(3)]
    assert [*vars(mean_interval(samples, rng())).values()] == [1, 0, 2]
    assert math.isnan(mean_interval([torch.tensor([0.0, math.inf])], rng()).low)
