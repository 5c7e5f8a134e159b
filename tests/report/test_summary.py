from collections.abc import Callable, Iterable
from functools import cache

import pytest

from fedsplit.errors import DataError
from fedsplit.report.rows import Summary
from fedsplit.report.summary import summarise
from tests.report.fixtures import TRIALS, Trial, attacked, joined, renamed


@cache
def summary_of(trials: tuple[Trial, ...] = TRIALS, seeds: tuple[int, ...] = (0,), headline: str = "ssim") -> Summary:
    pairs = [attacked(trial, seed, 24, headline) for seed in seeds for trial in trials]
    return summarise(joined(*pairs), [exhibit for _, exhibit in pairs])


def test_one_row_per_defense_and_attack_over_all_seeds() -> None:
    summary = summary_of(TRIALS[:4], seeds=(2, 0))
    assert len(summary.rows) == 4
    assert all(row.seeds == (0, 2) for row in summary.rows)
    assert summary.rows[0].utility.mean == pytest.approx(0.962)


@pytest.mark.parametrize(("headline", "choose"), [("ssim", max), ("psnr", max), ("mse", min)])
def test_the_headline_is_the_attack_that_leaks_most(headline: str, choose: Callable[[Iterable[float]], float]) -> None:
    summary = summary_of(headline=headline)
    for defense in summary.defenses("curious_server"):
        rows = [row for row in summary.rows if row.defense == defense and row.valid]
        scores = {row.attack: row.entries[0].outcome.scores[headline].mean or 0.0 for row in rows}
        worst = summary.worst("curious_server", defense)
        assert worst is not None
        assert scores[worst.attack] == choose(scores.values())
        assert worst.worst_of == len(rows)
        assert sum(bool(row.worst_of) for row in rows) == 1


def test_an_invalid_seed_makes_the_row_invalid_and_unranked() -> None:
    strongest = Trial("noise", "linear_inverse", 0.9, 0.9)
    weaker = Trial("noise", "inverse_network", 0.5, 0.9)
    pairs = [attacked(trial, seed, 24) for trial in (strongest, weaker) for seed in (0, 1)]
    pairs[1] = renamed(pairs[1], valid=False, reason="weights changed")
    summary = summarise(joined(*pairs), [exhibit for _, exhibit in pairs])
    broken = next(row for row in summary.rows if row.attack == "linear_inverse")
    assert broken.reasons == ("seed 1: weights changed",)
    worst = summary.worst("curious_server", "noise")
    assert worst is not None
    assert worst.attack == "inverse_network"
    assert worst.worst_of == 1


def test_an_attack_that_fails_without_a_defense_proves_nothing_with_one() -> None:
    failed = Trial("none", "linear_inverse", 0.0, 0.96, reason="does not beat the mean image")
    summary = summary_of((failed, Trial("noise", "linear_inverse", 0.0, 0.9)))
    assert summary.worst("curious_server", "noise") is None
    (row,) = (row for row in summary.rows if row.defense == "noise")
    assert "does not beat the mean image" in row.reasons[0]


@pytest.mark.parametrize("metric", ["ssim", "mse"])
def test_normalised_leakage_is_its_formula(metric: str) -> None:
    pairs = [attacked(Trial(defense, "a", kept, 0.9), 0, 24) for defense, kept in (("none", 0.9), ("noise", 0.5))]
    summary = summarise(joined(*pairs), [exhibit for _, exhibit in pairs])
    full, score = (outcome.scores[metric].mean for outcome, _ in pairs)
    trivial = pairs[1][0].anchors["mean_image"][metric]
    assert full is not None
    assert score is not None
    assert trivial is not None
    reading = summary.rows[1].reading(metric)
    assert reading is not None
    assert reading.undefended == full
    assert reading.leaked == pytest.approx((score - trivial) / (full - trivial))
    assert reading.leaked not in (None, 0.0, 1.0)


def test_normalised_leakage_is_clipped_and_absent_without_a_scale() -> None:
    trials = (Trial("none", "a", 0.6, 0.9), Trial("worse", "a", 0.9, 0.9), Trial("noise", "a", -0.4, 0.9))
    leaked = {row.defense: reading.leaked for row in summary_of(trials).rows if (reading := row.reading("ssim"))}
    assert leaked == {"none": 1.0, "worse": 1.0, "noise": 0.0}
    useless = (Trial("none", "a", -0.4, 0.9), Trial("noise", "a", 0.9, 0.9))
    readings = [row.reading("ssim") for row in summary_of(useless).rows]
    assert [reading.leaked for reading in readings if reading] == [None, None]


def test_the_undefended_rows_come_first_then_from_most_to_least_leaking() -> None:
    summary = summary_of()
    defenses = summary.defenses("curious_server")
    assert defenses[0] == "none"
    worst = [row.harm for defense in defenses[1:] if (row := summary.worst("curious_server", defense))]
    assert worst == sorted(worst, key=lambda harm: -(harm or 0.0))


def test_threats_and_rounds_are_kept_apart() -> None:
    trials = tuple(
        Trial("none", "a", 0.9 - 0.1 * number, 0.9, threat=threat, round=number)
        for threat in ("eavesdropper", "curious_server")
        for number in (1, 3)
    )
    summary = summary_of(trials)
    assert len(summary.rows) == 4
    assert summary.threats == ("eavesdropper", "curious_server")
    assert all(summary.worst(threat, "none") for threat in summary.threats)


def test_no_outcomes_is_a_data_error() -> None:
    with pytest.raises(DataError, match="no outcomes"):
        summarise(joined(), [])
