"""The interval against the closed form of the normal mean, and against distributions small enough to write down."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsplit.numerics import bootstrap
from fedsplit.numerics.bootstrap import SEEDS_FOR_AN_INTERVAL, interval, mean


def one_by_one(values: Tensor) -> float:
    """The mean, which the bootstrap does not know for one."""
    return mean(values)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("statistic", [mean, one_by_one])
def test_width_is_that_of_the_normal_mean(statistic: Callable[[Tensor], float]):
    values = torch.randn(400, generator=rng(1), dtype=torch.float64)
    found = interval([values], statistic, rng())
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


@pytest.mark.parametrize("statistic", [mean, one_by_one])
def test_three_trainings_are_resampled_too(statistic: Callable[[Tensor], float]):
    # Constant inside, so a replicate is the mean of three draws from {0, 1, 2}: each end has probability 1/27 > 2.5 %.
    samples = [torch.full((30,), float(training)) for training in range(3)]
    found = interval(samples, statistic, rng())
    assert (found.mean, found.low, found.high) == (1, 0, 2)


@pytest.mark.parametrize("statistic", [mean, one_by_one])
def test_two_trainings_say_something_about_images_only(statistic: Callable[[Tensor], float]):
    samples = [torch.full((30,), float(training)) for training in range(SEEDS_FOR_AN_INTERVAL - 1)]
    found = interval(samples, statistic, rng())
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
    found, expected = (interval(samples, statistic, rng(), 8000) for statistic in (mean, one_by_one))
    assert found.mean == pytest.approx(expected.mean, abs=1e-12)
    width = expected.high - expected.low
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.05 * width)


# Clusters


@pytest.mark.parametrize("statistic", [mean, one_by_one])
def test_images_that_are_all_alike_in_a_cluster_count_once(statistic: Callable[[Tensor], float]):
    # A replicate is the mean of three draws from {0, 1, 2}, of ten images each: each end has probability 1/27 > 2.5 %.
    values = torch.arange(3.0).repeat_interleave(10)
    found = interval([values], statistic, rng(), clusters=[values.long()])
    assert (found.mean, found.low, found.high) == (1, 0, 2)
    alone = interval([values], statistic, rng())
    assert alone.high - alone.low < 0.7


@pytest.mark.parametrize("statistic", [mean, one_by_one])
def test_clusters_are_the_same_for_all_trainings(statistic: Callable[[Tensor], float]):
    # Were they drawn for each training by itself, two trainings would halve the variance.
    values = torch.arange(40.0).repeat_interleave(3)
    one, two = (
        interval([values] * trainings, statistic, rng(), clusters=[values.long()] * trainings) for trainings in (1, 2)
    )
    assert two.high - two.low == pytest.approx(one.high - one.low, rel=0.1)
    assert one.high - one.low == pytest.approx(
        2 * 1.96 * float(torch.arange(40.0).std(correction=0)) / 40**0.5, rel=0.1
    )


@pytest.mark.parametrize("statistic", [mean, one_by_one])
def test_one_cluster_is_no_cluster(statistic: Callable[[Tensor], float]):
    values = torch.rand(40, generator=rng(3))
    clusters = [torch.full((40,), 7)]
    assert interval([values], statistic, rng(), clusters=clusters) == interval([values], statistic, rng())


@pytest.mark.parametrize("trainings", [1, 2, 3])
def test_the_mean_in_one_piece_draws_clusters_as_the_interval_does(trainings: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bootstrap, "_DRAWN", 1000)
    draws, clusters = rng(5), torch.tensor([0, 4, 4, 1, 1, 1, 1, 9, 9, 9] * 4)
    samples = [torch.randn(40, generator=draws) + clusters + training for training in range(trainings)]
    known = [clusters] * trainings
    found, expected = (interval(samples, statistic, rng(), 8000, known) for statistic in (mean, one_by_one))
    assert found.mean == pytest.approx(expected.mean, abs=1e-12)
    width = expected.high - expected.low
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.05 * width)
