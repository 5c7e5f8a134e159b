"""What is said of all attacks at once, in the table and on the page."""

from functools import cache

from fedsplit.records.outcome import Limit
from fedsplit.report.grid import Grid, grid
from fedsplit.report.rows import Summary
from fedsplit.report.summary import summarise
from fedsplit.report.table import markdown
from tests.report.fixtures import TRIALS, Trial, attacked, joined, renamed
from tests.report.test_table import printed

NOISY = "gaussian std=0.25"


def limit(value: float | None, reason: str = "") -> Limit:
    return Limit(value=value, metric="mse", direction="at least", about="guesses of one kind", reason=reason)


@cache
def summary_of(*said: tuple[str, int, Limit]) -> Summary:
    """said: (defense, seed, limit); the first two defenses, each with two attacks, or one for several seeds."""
    pairs = [
        renamed(attacked(trial, seed, 24), limits={"no_guess": one})
        for trial in (TRIALS[:6:3] if len(said) > 2 else (*TRIALS[:2], *TRIALS[3:5]))
        for defense, seed, one in said
        if trial.defense == defense
    ]
    return summarise(joined(*pairs), [exhibit for _, exhibit in pairs])


def lines(drawn: Grid) -> list[tuple[str, str, tuple[str, ...]]]:
    own = [line for line in drawn.anchors if "no guess" in line.attack]
    return [(line.defense, line.attack, tuple(score.text for score in line.scores)) for line in own]


def test_each_defense_has_a_line_with_the_number_in_the_column_of_its_metric() -> None:
    summary = summary_of(("none", 0, limit(0.0012)), (NOISY, 0, limit(0.0345)))
    drawn = grid(summary)
    assert [header.partition(" ")[0] for header in drawn.scores] == ["ssim", "psnr,", "mse", "leaked,"]
    assert lines(drawn) == [
        ("bounds", "no guess on none", ("", "", "≥ 0.0012", "")),
        ("", f"no guess on {NOISY}", ("", "", "≥ 0.0345", "")),
    ]
    assert "No guess: of guesses of one kind." in drawn.remarks
    text = markdown(summary)
    assert "| bounds |  | no guess on none |" in text and "≥ 0.0345" in text
    assert "no guess on none" in printed(summary)


def test_over_seeds_it_is_the_mean_and_none_where_a_seed_has_none() -> None:
    summary = summary_of(
        ("none", 0, limit(0.01)),
        ("none", 1, limit(0.03)),
        (NOISY, 0, limit(0.05)),
        (NOISY, 1, limit(None, "it was too dark")),
    )
    drawn = grid(summary)
    assert [(name, scores[2]) for _, name, scores in lines(drawn)] == [("no guess on none", "≥ 0.0200")]
    assert f"No no guess on {NOISY}: it was too dark." in drawn.remarks


def test_those_for_the_same_reason_are_told_in_one_sentence() -> None:
    dark = limit(None, "it was too dark")
    drawn = grid(summary_of(("none", 0, dark), (NOISY, 0, dark)))
    assert lines(drawn) == []
    assert f"No no guess on none, {NOISY}: it was too dark." in drawn.remarks


def test_another_direction_has_another_sign_and_another_leak_another_line() -> None:
    below = Limit(value=0.9, metric="ssim", direction="at most", about="guesses", reason="")
    first, second = (Trial("none", "linear_inverse", 0.9, 0.9, round=number) for number in (1, 2))
    pairs = [
        renamed(attacked(first, 0, 24), limits={"top": below}),
        renamed(attacked(second, 0, 24), limits={"top": below.model_copy(update={"value": 0.8})}),
    ]
    drawn = grid(summarise(joined(*pairs), [exhibit for _, exhibit in pairs]))
    found = [(line.settings, line.scores[0].text) for line in drawn.anchors if line.attack == "top on none"]
    assert sorted(found) == [(("inference, round 1",), "≤ 0.900"), (("inference, round 2",), "≤ 0.800")]
