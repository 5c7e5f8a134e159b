from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsplit.report import wording
from fedsplit.report.estimate import Coverage, Estimate
from fedsplit.report.matched import DROPS, Matched, Strength, matched, matched_lines
from fedsplit.report.rows import Summary
from fedsplit.report.summary import summarise
from fedsplit.report.table import markdown
from tests.report.fixtures import Trial, attacked, joined

THREAT = "curious_server"


def strength(drop: float, mean: float, half: float = 0.0, sign: int = 1) -> Strength:
    found = Estimate(mean, mean - half, mean + half, "", sign, Coverage.IMAGES)
    return Strength("", drop, None, found)


def mean(one: Matched, drop: float) -> float | None:
    found = one.leak(drop)
    return found.mean if found else None


def test_between_two_strengths_the_leak_and_its_interval_lie_on_the_line_and_outside_of_them_nothing_is_made_up() -> (
    None
):
    one = Matched("noise", "std", (strength(1.0, 0.8, 0.1), strength(3.0, 0.4, 0.3)))
    found = one.leak(1.5)
    assert found and (found.mean, found.low, found.high) == pytest.approx((0.7, 0.55, 0.85))
    assert [mean(one, drop) for drop in (0.9, 1.0, 3.0, 50.0)] == [None, 0.8, 0.4, 0.4]


def test_a_strength_that_another_one_beats_in_both_is_passed_over() -> None:
    one = Matched("noise", "std", (strength(1.0, 0.8), strength(2.0, 0.9), strength(3.0, 0.4)))
    assert mean(one, 2.0) == pytest.approx(0.6)
    cheaper = Matched("noise", "std", (strength(1.0, 0.8), strength(1.0, 0.5)))
    assert mean(cheaper, 1.0) == 0.5


def test_a_better_accuracy_than_without_a_defense_costs_nothing() -> None:
    assert mean(Matched("more data", "", (strength(-0.7, 0.9),)), DROPS[0]) == 0.9


def test_where_less_leaks_more_the_largest_is_the_best() -> None:
    one = Matched(
        "noise", "std", (strength(1.0, 0.01, sign=-1), strength(2.0, 0.005, sign=-1), strength(3.0, 0.03, sign=-1))
    )
    assert mean(one, 2.0) == pytest.approx(0.02)


def test_without_an_interval_at_either_end_there_is_none_between() -> None:
    bare = strength(3.0, 0.4)
    bare = replace(bare, found=replace(bare.found, low=None, high=None))
    found = Matched("noise", "std", (strength(1.0, 0.8), bare)).leak(2.0)
    assert found and (found.low, found.high) == (None, None)


POINTS = st.lists(st.tuples(st.floats(-5, 20), st.floats(0, 1)), min_size=1, max_size=6)


@given(POINTS, st.lists(st.floats(-10, 30), min_size=2, max_size=6))
def test_who_pays_more_is_never_left_with_more_and_no_strength_does_better(
    points: list[tuple[float, float]], drops: list[float]
) -> None:
    one = Matched("any", "setting", tuple(strength(drop, leak) for drop, leak in points))
    leaks = [found for drop in sorted(drops) if (found := mean(one, drop)) is not None]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(leaks))
    for drop, leak in points:
        found = mean(one, drop)
        assert found is not None and found <= leak + 1e-12
        assert found >= min(leak for _, leak in points) - 1e-12


TRIALS = (
    Trial("none", "a", 0.9, 0.96),
    Trial("noise std=1.0", "a", 0.7, 0.95),
    Trial("noise std=2.0", "a", 0.3, 0.92),
    Trial("rank", "a", 0.5, 0.93),
)


def summary_of(*more: Trial, undefended: str = "") -> Summary:
    none, *others = TRIALS
    trials = [replace(none, reason=undefended), *others, *more]
    rows = ["  none: {kind: none}", "  rank: {kind: low_rank, rank: 4}"]
    rows += [f"  noise std={std}: {{kind: gaussian_noise, std: {std}}}" for std in (1.0, 2.0, 3.0)]
    pairs = [attacked(trial, seed, 24) for trial in trials for seed in (0, 1)]
    return summarise(joined(*pairs), [exhibit for _, exhibit in pairs], "\n".join(["defenses:", *rows]))


def test_a_sweep_is_one_line_and_a_row_outside_of_all_sweeps_its_own() -> None:
    summary = summary_of()
    found = {one.name: one for one in matched(summary, THREAT)}
    assert list(found) == ["none", "rank", "noise"]
    assert [mean(found["none"], drop) for drop in DROPS] == [found["none"].strengths[0].found.mean] * len(DROPS)
    drops = [(strength.value, strength.drop) for strength in found["noise"].strengths]
    assert drops == [("1", pytest.approx(1.0)), ("2", pytest.approx(4.0))]
    worst = [summary.worst(THREAT, f"noise std={std}") for std in (1.0, 2.0)]
    first, second = (reading.estimate.mean for row in worst if row and (reading := row.reading("ssim")))
    assert first is not None and second is not None
    assert mean(found["noise"], 2.0) == pytest.approx(first + (second - first) / 3)
    assert [mean(found["rank"], drop) is None for drop in DROPS] == [True, True, True, False, False]


def test_the_cost_is_told_with_its_deviation_and_what_costs_too_much_has_no_score() -> None:
    lines = {line.name: line for line in matched_lines(summary_of(), THREAT)}
    assert lines["noise"].cost == "1.0 ± 0.0 at std 1, 4.0 ± 0.0 at std 2"
    assert (lines["rank"].cost, lines["none"].cost) == ("3.0 ± 0.0", "")
    assert all(score.text == lines["mean image"].leaks[0].text != wording.ABSENT for score in lines["mean image"].leaks)
    assert [score.text == wording.ABSENT for score in lines["noise"].leaks] == [True, False, False, False, False]


def test_a_strength_without_a_valid_attack_is_left_out() -> None:
    (noise,) = (one for one in matched(summary_of(Trial("noise std=3.0", "a", 0.1, 0.9, "broken")), THREAT)
                if one.name == "noise")  # fmt: skip
    assert [strength.value for strength in noise.strengths] == ["1", "2"]


def test_without_a_sweep_or_an_undefended_row_nothing_is_compared() -> None:
    assert matched(replace(summary_of(), sweeps=()), THREAT) == ()
    summary = summary_of()
    rows = tuple(row for row in summary.rows if not row.undefended)
    assert matched(replace(summary, rows=rows), THREAT) == ()
    assert matched(summary_of(undefended="broken"), THREAT) == (), "no attack was shown to work"


def test_markdown_has_a_table_of_it_for_each_threat_and_none_without_a_sweep() -> None:
    other = [replace(trial, threat="eavesdropper") for trial in TRIALS]
    text = markdown(summary_of(*other))
    titles = [line for line in text.splitlines() if line.startswith("**At the same cost")]
    assert titles == [f"**At the same cost, ssim under {threat}**" for threat in (THREAT, "eavesdropper")]
    assert text.count("| noise | \N{EN DASH} | ") == 2 and text.count(wording.MATCHED) == 1
    assert "At the same cost" not in markdown(replace(summary_of(), sweeps=()))
