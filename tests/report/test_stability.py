import statistics

import pytest

from fedsplit.report.canvas import style
from fedsplit.report.rows import Summary
from fedsplit.report.stability import leak_by_seed
from fedsplit.report.summary import summarise
from tests.report.fixtures import TRIALS, attacked, joined

THREAT = "curious_server"


def summary_of(seeds: tuple[int, ...], headline: str = "ssim") -> Summary:
    pairs = [attacked(trial, seed, 24, headline) for trial in TRIALS[::3] for seed in seeds]
    return summarise(joined(*pairs), [exhibit for _, exhibit in pairs])


@pytest.mark.parametrize("headline", ["ssim", "mse"])
def test_each_row_has_its_seeds_their_mean_and_their_deviation(headline: str) -> None:
    summary = summary_of((0, 1, 2), headline)
    with style():
        figure = leak_by_seed(summary, THREAT)
    assert figure is not None
    (axes,) = figure.axes
    defenses = [label.get_text() for label in axes.get_yticklabels()]
    assert defenses == list(summary.defenses(THREAT))
    for line, defense in enumerate(defenses):
        row = summary.worst(THREAT, defense)
        assert row
        scores = [entry.outcome.scores[headline].mean or 0.0 for entry in row.entries]
        assert axes.collections[line].get_offsets()[:, 0].tolist() == pytest.approx(scores)
        band, stroke = axes.lines[2 * line : 2 * line + 2]
        mean, deviation = statistics.fmean(scores), statistics.stdev(scores)
        assert list(band.get_xdata()) == pytest.approx([mean - deviation, mean + deviation])
        assert list(stroke.get_xdata()) == pytest.approx([mean])
        words = axes.texts[line].get_text().split(" ± ")
        assert [float(word) for word in words] == pytest.approx([mean, deviation], abs=0.006)
    assert axes.xaxis_inverted() == (headline == "mse"), "right leaks more"


def test_one_seed_says_nothing_about_another() -> None:
    assert leak_by_seed(summary_of((0,)), THREAT) is None
