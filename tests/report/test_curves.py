from dataclasses import replace

import numpy as np
import pytest

from fedsplit.report.canvas import style
from fedsplit.report.curves import leak_by_setting
from fedsplit.report.rows import Summary
from fedsplit.report.summary import summarise
from tests.report.fixtures import Trial, attacked, joined

THREAT = "curious_server"
STRENGTHS = (0.1, 0.25, 1.0)


def summary_of(headline: str = "ssim", broken: int = 0) -> Summary:
    """Three strengths of one noise and two of another; of the first, so many have no valid attack."""
    trials = [Trial("none", "a", 0.9, 0.96)]
    rows = ["  none: {kind: none}"]
    for number, std in enumerate(STRENGTHS):
        reason = "broken" if number < broken else ""
        trials.append(Trial(f"noise std={std}", "a", 0.8 - 0.3 * number, 0.9 - 0.1 * number, reason=reason))
        rows.append(f"  noise std={std}: {{kind: gaussian_noise, std: {std}}}")
    for scale in (2, 4):
        trials.append(Trial(f"laplace scale={scale}", "a", 0.5 / scale, 0.8))
        rows.append(f"  laplace scale={scale}: {{kind: laplace_noise, scale: {scale}}}")
    pairs = [attacked(trial, seed, 24, headline) for trial in trials for seed in (0, 1)]
    return summarise(joined(*pairs), [exhibit for _, exhibit in pairs], "\n".join(["defenses:", *rows]))


def curve(axes, name: str) -> np.ndarray:
    (found,) = (one for one in axes.containers if one.get_label() == name)
    return np.asarray(found.lines[0].get_xydata())


@pytest.mark.parametrize("headline", ["ssim", "mse"])
def test_each_setting_has_a_column_with_the_leak_above_and_the_accuracy_below(headline: str) -> None:
    summary = summary_of(headline)
    with style():
        figure = leak_by_setting(summary, THREAT)
    assert figure is not None
    leak, accuracy, other, _ = figure.axes
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "std", "", "scale"]
    worst = [summary.worst(THREAT, f"noise std={std}") for std in STRENGTHS]
    assert curve(leak, "noise")[:, 0].tolist() == list(STRENGTHS)
    for (_, drawn), row in zip(curve(leak, "noise"), worst, strict=True):
        reading = row.reading(headline) if row else None
        assert reading and drawn == reading.estimate.mean
    assert curve(accuracy, "noise")[:, 1] == pytest.approx([89.8, 79.8, 69.8])
    assert len(curve(other, "laplace")) == 2
    assert leak.yaxis_inverted() == (headline == "mse"), "up leaks more"
    assert (leak.get_xscale(), other.get_xscale()) == ("log", "linear")


def test_rows_without_a_valid_attack_are_left_out_and_one_row_is_no_curve() -> None:
    for broken, left in ((1, ["noise", "laplace"]), (2, ["laplace"])):
        with style():
            figure = leak_by_setting(summary_of(broken=broken), THREAT)
        assert figure is not None
        names = [one.get_label() for axes in figure.axes[::2] for one in axes.containers]
        assert names == left


def test_without_a_sweep_there_is_no_figure() -> None:
    assert leak_by_setting(replace(summary_of(), sweeps=()), THREAT) is None


def test_more_settings_than_fit_beside_each_other_go_below() -> None:
    trials, rows = [Trial("none", "a", 0.9, 0.96)], ["  none: {kind: none}"]
    for setting in "pqrst":
        for value in (1, 2):
            trials.append(Trial(f"x {setting}={value}", "a", 0.5 / value, 0.9))
            rows.append(f"  x {setting}={value}: {{kind: x, {setting}: {value}}}")
    pairs = [attacked(trial, 0, 24) for trial in trials]
    summary = summarise(joined(*pairs), [exhibit for _, exhibit in pairs], "\n".join(["defenses:", *rows]))
    with style():
        figure = leak_by_setting(summary, THREAT)
        assert figure is not None
        figure.draw_without_rendering()
    assert [axes.get_xlabel() for axes in figure.axes[1::2]] == list("pqrst")
    first, *_, last = figure.axes[::2]
    assert last.get_position().y1 < first.get_position().y0
    assert last.get_position().x0 == pytest.approx(first.get_position().x0, abs=0.02)
    assert {axes.get_ylim() for axes in figure.axes[::2]} == {first.get_ylim()}
