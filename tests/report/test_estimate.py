import math

import pytest
import torch
from torch import Generator, Tensor

from fedsplit.records.outcome import Score
from fedsplit.report.estimate import Coverage, estimate, spread


def column(mean: float, spread: float = 1.0, count: int = 200, seed: int = 0) -> Tensor:
    values = torch.randn(count, generator=Generator().manual_seed(seed), dtype=torch.float64)
    return (values - values.mean()) / values.std() * spread + mean


def scored(values: Tensor, **changes: object) -> Score:
    fields = {"mean": float(values.mean()), "low": 0.0, "high": 1.0, "unit": "dB", "more_leaks": "higher"}
    return Score.model_validate(fields | changes)


def test_spread_is_mean_and_deviation_over_seeds() -> None:
    assert spread([0.9, 0.92, 0.94]).mean == pytest.approx(0.92)
    assert spread([0.9, 0.92, 0.94]).deviation == pytest.approx(0.02)
    assert spread([0.9]).deviation is None
    assert spread([0.9, None]).mean is None
    assert spread([0.9, math.inf]).mean is None


def test_one_seed_keeps_the_interval_of_its_outcome() -> None:
    found = estimate([scored(column(5), low=4.5, high=5.5)], [None], ("a",))
    assert (found.mean, found.low, found.high) == (pytest.approx(5), 4.5, 5.5)
    assert found.coverage is Coverage.IMAGES


def test_two_seeds_cover_images_only() -> None:
    columns = [column(5, seed=1), column(9, seed=2)]
    found = estimate([scored(values) for values in columns], columns, ("a",))
    assert found.mean == pytest.approx(7)
    assert found.coverage is Coverage.IMAGES
    # The mean of two independent means of 200 draws of deviation 1: 1.96 / sqrt(400).
    assert found.low is not None
    assert found.high is not None
    assert (found.high - found.low) / 2 == pytest.approx(1.96 / 20, rel=0.15)


def test_three_seeds_cover_trainings_too() -> None:
    columns = [column(mean, seed=mean) for mean in (5, 7, 9)]
    found = estimate([scored(values) for values in columns], columns, ("a",))
    assert found.coverage is Coverage.TRAININGS
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low > 2, "the seeds differ by 2 each, far more than images within one"


@pytest.mark.parametrize(("seeds", "words"), [(1, "classes only"), (2, "classes only"), (3, "classes and trainings")])
def test_guesses_at_a_class_are_drawn_with_it(seeds: int, words: str) -> None:
    classes = torch.arange(6).repeat(8)
    right = (classes < 3).double()
    scores = [scored(right, low=0.1, high=0.9)] * seeds
    found = estimate(scores, [right] * seeds, ("a",), [classes] * seeds)
    assert (found.mean, found.coverage) == (0.5, words)
    # Six draws of a fair coin: fewer than one or more than five heads have a probability of 1/64 each.
    assert (found.low, found.high) == ((0.1, 0.9) if seeds == 1 else (pytest.approx(1 / 6), pytest.approx(5 / 6)))
    one = estimate(scores, [right] * seeds, ("a",), [torch.zeros_like(classes)] * seeds)
    assert one.coverage == (Coverage.TRAININGS if seeds == 3 else Coverage.IMAGES)


def test_the_same_stream_gives_the_same_interval() -> None:
    columns = [column(5, seed=1), column(9, seed=2)]
    scores = [scored(values) for values in columns]
    assert estimate(scores, columns, ("a", "b")) == estimate(scores, columns, ("a", "b"))
    assert estimate(scores, columns, ("a", "b")) != estimate(scores, columns, ("a", "c"))


def test_no_interval_where_the_values_do_not_average_to_the_score() -> None:
    columns = [column(5, seed=1), column(9, seed=2)]
    scores = [scored(values, mean=1.0) for values in columns]
    found = estimate(scores, columns, ("a",))
    assert (found.mean, found.low, found.coverage) == (1.0, None, Coverage.NOTHING)


def test_no_mean_where_a_seed_has_none() -> None:
    scores = [scored(column(5)), scored(column(5), mean=None, low=None, high=None)]
    found = estimate(scores, [column(5), column(5)], ("a",))
    assert (found.mean, found.harm, found.coverage) == (None, None, Coverage.NOTHING)


def test_harm_turns_with_the_direction() -> None:
    assert estimate([scored(column(5))], [None], ()).harm == pytest.approx(5)
    assert estimate([scored(column(5), more_leaks="lower")], [None], ()).harm == pytest.approx(-5)
