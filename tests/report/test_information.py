import pytest
from matplotlib.text import Text

from fedsplit.records.outcome import Information
from fedsplit.report.canvas import style
from fedsplit.report.information import block_information
from fedsplit.report.rows import Summary
from fedsplit.report.summary import summarise
from tests.report.fixtures import NOTICE, Trial, attacked, joined

THREAT = "curious_server"
Told = tuple[tuple[str, float, float, bool], ...]
PUBLIC: Told = (("conv1", 0.1, 0.7, True), ("conv2", 0.2, 0.2, False), ("dense", 0.7, 0.1, False))


def summary_of(rows: dict[str, Told], seeds: tuple[int, ...] = (0, 1)) -> Summary:
    pairs = [
        (outcome.model_copy(update={"information": told(blocks, seed)}), exhibit)
        for number, (name, blocks) in enumerate(rows.items())
        for seed in seeds
        for outcome, exhibit in [attacked(Trial(name, "a", 0.9 - 0.2 * number, 0.9), seed, 24)]
    ]
    return summarise(joined(*pairs), [exhibit for _, exhibit in pairs])


def told(blocks: Told, seed: int) -> dict[str, Information]:
    return {
        name: Information(classification=classification, inversion=inversion + 0.02 * seed, frozen=frozen)
        for name, classification, inversion, frozen in blocks
    }


def test_every_block_has_two_bars_and_those_that_are_frozen_lie_on_grey() -> None:
    with style():
        figure = block_information(summary_of({"none": (), "public": PUBLIC, "more": PUBLIC[:2]}), THREAT)
    assert figure is not None
    first, second = figure.axes
    assert (first.get_title(loc="left"), second.get_title(loc="left")) == ("public", "more")
    assert [label.get_text() for label in first.get_xticklabels()] == ["conv1", "conv2", "dense"]
    heights = [[bar.get_height() for bar in bars] for bars in first.containers if hasattr(bars, "patches")]
    assert heights == [pytest.approx([10, 20, 70]), pytest.approx([71, 21, 11])]
    grey = [patch for patch in first.patches if patch.get_width() == 1.0]
    assert [patch.get_x() for patch in grey] == [-0.5]
    words = [text.get_text() for text in figure.findobj(Text)]
    assert {"classification", "inversion", f"Data: {NOTICE}"} <= set(words)


def test_the_deviation_is_that_between_seeds() -> None:
    row = next(row for row in summary_of({"none": (), "public": PUBLIC}).rows if row.defense == "public")
    assert row.information("conv1", "inversion").mean == pytest.approx(0.71)
    assert row.information("conv1", "inversion").deviation == pytest.approx(0.02 / 2**0.5)
    assert row.information("conv1", "classification").deviation == pytest.approx(0)
    assert row.frozen("conv1") and not row.frozen("conv2")


def test_one_block_alone_or_none_is_not_drawn() -> None:
    for rows in ({"none": ()}, {"none": (), "public": PUBLIC[:1]}):
        assert block_information(summary_of(rows), THREAT) is None
