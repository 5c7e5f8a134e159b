import io
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from fedsplit.report import figures
from fedsplit.report.canvas import png, style
from fedsplit.report.curves import leak_by_setting
from fedsplit.report.gallery import gallery, overview
from fedsplit.report.maps import component_map
from fedsplit.report.pictures import galleries, plots
from fedsplit.report.rows import Summary
from fedsplit.report.sparsity import active_values, leak_by_activity
from fedsplit.report.stability import leak_by_seed
from fedsplit.report.summary import summarise
from tests.report import fixtures
from tests.report.fixtures import NOTICE, SCENARIO_TEXT, TRIALS, Trial, attacked, joined

THREAT = "curious_server"
LONG = "attack_accuracy_top1"


@cache
def summary_of(
    trials: tuple[Trial, ...] = TRIALS,
    notice: str = NOTICE,
    headline: str = "ssim",
    leak: str = "inference",
    seeds: tuple[int, ...] = (0,),
) -> Summary:
    pairs = [attacked(trial, seed, 24, headline) for trial in trials for seed in seeds]
    pairs = [(outcome.model_copy(update={"leak": leak}), exhibit) for outcome, exhibit in pairs]
    return summarise(joined(*pairs, notice=notice), [exhibit for _, exhibit in pairs], SCENARIO_TEXT)


def over_rounds() -> Summary:
    trials = tuple(replace(trial, round=number, reason="") for trial in TRIALS[:6] for number in (1, 3))
    return summary_of(trials, leak="training")


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text)]


def sparse() -> Summary:
    blocks = (("sparse", 0.2, 3.0), ("rows", 1.0, 1.0))
    return summary_of(tuple(replace(trial, blocks=blocks) for trial in TRIALS))


EVERY: tuple[Callable[[Summary, str], Figure | None], ...] = (
    overview,
    figures.privacy_utility,
    figures.leak_by_distance,
    figures.leak_by_round,
    leak_by_setting,
    leak_by_seed,
    leak_by_activity,
)
DRAWINGS: list[tuple[Callable[[Summary, str], Figure | None], Summary]] = [
    (overview, summary_of()),
    (figures.privacy_utility, summary_of()),
    (figures.leak_by_distance, summary_of()),
    (figures.leak_by_round, over_rounds()),
    (leak_by_seed, summary_of(seeds=(0, 1))),
    (active_values, sparse()),
    (leak_by_activity, sparse()),
    (component_map, summary_of()),
]


@pytest.mark.parametrize(("draw", "summary"), DRAWINGS)
def test_every_figure_carries_the_notice_and_names_every_ranked_defense(
    draw: Callable[[Summary, str], Figure | None], summary: Summary
) -> None:
    with style():
        figure = draw(summary, THREAT)
    assert figure is not None
    found = words(figure)
    assert f"Data: {NOTICE}" in found
    joined = {name: sweep.name for sweep in summary.sweeps for _, name in sweep.points}
    for defense in summary.defenses(THREAT):
        name = joined.get(defense, defense) if draw is figures.privacy_utility else defense
        assert any("".join(name.split()) in "".join(text.split()) for text in found)


def test_the_words_of_an_overview_do_not_run_into_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fixtures.UNITS, LONG, ("top-1", "higher"))
    monkeypatch.setattr(fixtures, "scores", lambda private, guess: {LONG: (private - guess).flatten(1).mean(1)})
    names = (
        "none",
        *(f"misleading fakes ++ disguised_weight={value}" for value in (0.25, 0.5, 1.0)),
        "sca lambda=0.25",
    )
    trials = tuple(Trial(name, "plug_and_play by style_gan", 0.9, 0.9) for name in names)
    with style():
        figure = overview(summary_of(trials, headline=LONG), THREAT)
    assert figure is not None
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.findobj(Text) if text.get_text()]
    assert len(boxes) > 3 * len(names)
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[number + 1 :])


@pytest.mark.parametrize("draw", EVERY)
def test_nothing_valid_gives_no_figure(draw: Callable[[Summary, str], Figure | None]) -> None:
    assert draw(summary_of((Trial("none", "a", 0.1, 0.9, reason="broken"),)), THREAT) is None


def test_right_always_leaks_more() -> None:
    for headline in ("ssim", "mse"):
        with style():
            figure = figures.privacy_utility(summary_of(headline=headline), THREAT)
        assert figure is not None
        (axes,) = figure.axes
        low, high = axes.get_xlim()
        assert (low > high) == (headline == "mse")


def test_a_gallery_shows_the_picked_images_unsmoothed() -> None:
    row = summary_of().rows[0]
    with style():
        figure = gallery(row, row.entries[0], NOTICE)
    exhibit = row.entries[0].exhibit
    shown = figure.axes[0].images
    assert len(shown) == 9
    assert {image.get_interpolation() for image in shown} == {"nearest"}
    for line in range(3):
        pixels = np.asarray(shown[3 * line + 2].get_array())[..., 0]
        assert np.allclose(pixels, exhibit.reconstruction[line, 0].numpy())
    assert f"Data: {NOTICE}" in words(figure)
    values = dict(exhibit.values)["ssim"]
    assert any(f"ssim {float(values[exhibit.picks[0]]):#.3g}" in text for text in words(figure))


def test_captions_carry_the_notice_and_files_have_names_of_their_own() -> None:
    trials = (Trial("a b", "x", 0.9, 0.9), Trial("a_b", "x", 0.9, 0.9), Trial("../é/", "x", 0.9, 0.9))
    summary = summary_of(trials)
    pictures = [*plots(summary, THREAT), *(one.picture for one in galleries(summary))]
    assert all(NOTICE in picture.caption for picture in pictures)
    names = [picture.name for picture in pictures]
    assert len(set(names)) == len(names)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for name in names)


def test_labels_hide_neither_each_other_nor_a_point() -> None:
    trials = tuple(Trial(f"defense {number}", "a", 0.9 - 0.004 * number, 0.95, reason="") for number in range(5))
    with style():
        figure = figures.privacy_utility(summary_of(trials), THREAT)
        assert figure is not None
        figure.draw_without_rendering()
        labels = [text for text in figure.axes[0].texts if text.get_text().startswith("defense")]
        # An annotation's own extent has its leader in it.
        boxes = [Text.get_window_extent(label) for label in labels]
    assert len(boxes) == 5
    for index, box in enumerate(boxes):
        assert not any(box.shrunk(0.9, 0.9).overlaps(other.shrunk(0.9, 0.9)) for other in boxes[index + 1 :])


def test_the_same_figure_is_the_same_bytes_and_drawing_leaves_no_trace() -> None:
    before = dict(matplotlib.rcParams)
    first, second = (next(plots(summary_of(), THREAT)).content for _ in range(2))
    assert first == second
    assert Image.open(io.BytesIO(first)).format == "PNG"
    assert dict(matplotlib.rcParams) == before
    assert png(Figure())
