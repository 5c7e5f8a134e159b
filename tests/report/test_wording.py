import pytest

from fedsplit.report import wording
from fedsplit.report.estimate import Coverage, Estimate, Spread


def found(mean: float | None, half: float | None = None, unit: str = "", sign: int = 1) -> Estimate:
    if mean is None or half is None:
        return Estimate(mean, None, None, unit, sign, Coverage.NOTHING)
    return Estimate(mean, mean - half, mean + half, unit, sign, Coverage.IMAGES)


@pytest.mark.parametrize(
    ("half", "expected"),
    [(0.0005, 4), (0.0021, 3), (0.014, 3), (0.021, 2), (0.25, 1), (3.0, 0), (400.0, 0), (1e-9, 6)],
)
def test_decimals_follow_the_width_of_the_interval(half: float, expected: int) -> None:
    assert wording.decimals([found(20.0, half)]) == expected


def test_decimals_without_an_interval_give_three_digits() -> None:
    assert wording.decimals([found(27.68)]) == 1
    assert wording.decimals([found(0.0123), found(None)]) == 4
    assert wording.decimals([]) == 2


def test_numbers_and_bounds() -> None:
    assert wording.number(-0.5, 2) == "\N{MINUS SIGN}0.50"
    assert wording.number(None, 2) == wording.ABSENT
    assert wording.bounds(found(1.0, 0.5), 1) == "[0.5, 1.5]"
    assert wording.bounds(found(1.0), 1) == ""
    assert [wording.significant(value) for value in (28.0, 0.000538, 123.4)] == ["28.0", "0.000538", "123"]


def test_shares_are_percentages() -> None:
    assert wording.percent(Spread(0.9312, 0.0041)) == "93.1 ± 0.4"
    assert wording.percent(Spread(0.9312, None)) == "93.1"
    assert wording.percent(Spread(None, None)) == wording.ABSENT


@pytest.mark.parametrize(("size", "expected"), [(0, "0 B"), (999, "999 B"), (25856, "25.9 kB"), (3.2e6, "3.2 MB")])
def test_traffic_has_a_unit(size: float, expected: str) -> None:
    assert wording.traffic(size) == expected


def test_headers_tell_unit_and_direction() -> None:
    assert wording.metric_header("psnr", found(1.0, unit="dB")) == "psnr, dB ↑"
    assert wording.metric_header("mse", found(1.0, sign=-1)) == "mse ↓"


def test_captions_carry_the_notice() -> None:
    assert wording.caption("A figure.", "a stand-in") == "A figure. Data: a stand-in."
    assert wording.caption("A figure.", "") == "A figure."


def test_seconds_have_as_many_digits_as_they_deserve() -> None:
    assert wording.seconds(Spread(0.094, 0.011)) == "0.09 ± 0.01"
    assert wording.seconds(Spread(27.73, 1.66)) == "27.7 ± 1.7"
    assert wording.seconds(Spread(312.4, None)) == "312"
    assert wording.seconds(Spread(None, None)) == wording.ABSENT


def test_clipped_words_say_so() -> None:
    assert wording.clipped("sparse", 6) == "sparse"
    assert wording.clipped("sparse1", 6) == "spars…"
