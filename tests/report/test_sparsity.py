import pytest
from matplotlib.text import Text

from fedsplit.records.outcome import Activity
from fedsplit.report.canvas import style
from fedsplit.report.rows import Summary
from fedsplit.report.sparsity import active_values, leak_by_activity
from fedsplit.report.summary import summarise
from tests.report.fixtures import Trial, attacked, joined

THREAT = "curious_server"
DENSE = (("rows", 1.0, 1.0),)
ROWS = {
    "none": DENSE,
    "weak": (("dense", 1.0, 4.0), ("sparse", 0.3, 4.8), ("rows", 0.9, 0.9)),
    "strong": (("sparse", 0.05, 0.8), ("rows", 1.0, 1.0)),
}


def summary_of(rows: dict[str, tuple[tuple[str, float, float], ...]], headline: str = "ssim") -> Summary:
    trials = [
        Trial(name, "a", 0.9 - 0.2 * number, 0.9, blocks=blocks) for number, (name, blocks) in enumerate(rows.items())
    ]
    pairs = [attacked(trial, seed, 24, headline) for trial in trials for seed in (0, 1)]
    return summarise(joined(*pairs), [exhibit for _, exhibit in pairs])


def test_every_block_has_a_bar_as_long_as_its_share_in_the_order_of_the_segment() -> None:
    with style():
        figure = active_values(summary_of(ROWS), THREAT)
    assert figure is not None
    bars = [[bar.get_width() for bar in axes.patches if bar.get_width() != 1.0] for axes in figure.axes]
    assert bars == [[0.05], [0.3], [0.9]]
    names = [[text.get_text() for text in axes.texts[::2]] for axes in figure.axes]
    assert names == [["rows", "dense", "sparse"], ["sparse", "rows"], ["rows"]]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["none", "weak", "strong"]
    assert "5.0" in [text.get_text() for text in figure.findobj(Text)]


def test_the_deviation_is_that_between_seeds() -> None:
    pairs = [attacked(Trial("none", "a", 0.9, 0.9, blocks=(("sparse", 0.2, 1.0),)), seed, 24) for seed in (0, 1)]
    outcome, exhibit = pairs[1]
    changed = outcome.model_copy(update={"activity": {"sparse": Activity(share=0.4, per_pixel=2.0)}})
    summary = summarise(joined(pairs[0], (changed, exhibit)), [exhibit, exhibit])
    found = summary.rows[0].active("sparse")
    assert found.mean == pytest.approx(0.3) and found.deviation == pytest.approx(0.02**0.5)
    assert summary.rows[0].active_per_pixel("sparse").mean == pytest.approx(1.5)


def test_what_is_dense_everywhere_or_was_not_measured_is_not_drawn() -> None:
    for rows in ({"none": DENSE, "a": DENSE}, {"none": (), "a": ()}, {"none": (("rows", 0.9999, 1.0),)}):
        assert active_values(summary_of(rows), THREAT) is None
        assert leak_by_activity(summary_of(rows), THREAT) is None


@pytest.mark.parametrize(("headline", "panels"), [("ssim", 2), ("psnr", 1)])
def test_the_leak_stands_over_the_first_sparse_block_with_the_threshold_at_one(headline: str, panels: int) -> None:
    summary = summary_of(ROWS, headline)
    with style():
        figure = leak_by_activity(summary, THREAT)
    assert figure is not None and len(figure.axes) == panels
    for axes, metric in zip(figure.axes, (headline, "psnr"), strict=False):
        points = {bars.get_label(): bars.lines[0].get_xydata()[0].tolist() for bars in axes.containers}
        expected = {}
        for name, codes in (("weak", 4.8), ("strong", 0.8)):
            row = summary.worst(THREAT, name)
            reading = row.reading(metric) if row else None
            assert reading
            expected[name] = [codes, reading.estimate.mean]
        assert points == expected
        assert any(list(line.get_xdata()) == [1.0, 1.0] for line in axes.lines)
        assert "no defense" in {text.get_text() for text in axes.texts}


def test_one_sparse_row_is_nothing_to_compare() -> None:
    assert leak_by_activity(summary_of({"none": DENSE, "a": ROWS["strong"]}), THREAT) is None
