"""What a swept setting of a defense buys and what it costs: leak and accuracy against its value."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from fedsplit.report import wording
from fedsplit.report.canvas import Look, canvas, looks, note
from fedsplit.report.ranked import Ranked, ranked, reference, upward, whiskers
from fedsplit.report.rows import UNDEFENDED, Summary

_MOST_TICKS = 6
FAR_APART = 8.0
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""


@dataclass(frozen=True)
class _Curve:
    """One sweep as it is drawn: (value, the worst attack on that row) by ascending value."""

    name: str
    setting: str
    points: tuple[tuple[float, Ranked], ...]
    look: Look

    @property
    def values(self) -> list[float]:
        return [value for value, _ in self.points]


def leak_by_setting(summary: Summary, threat: str) -> Figure | None:
    """The headline of the worst attack, and accuracy below it, against each setting that differs between rows.

    One column per setting. None where no two ranked rows differ in one number alone.
    """
    rows = {one.row.defense: one for one in ranked(summary, threat)}
    columns: dict[str, list[_Curve]] = {}
    for curve in _curves(summary, rows):
        columns.setdefault(curve.setting, []).append(curve)
    if not columns:
        return None
    figure = canvas(max(3.2 * len(columns) + 1.0, 5.6), 5.8)
    panels = figure.subplots(2, len(columns), sharex="col", sharey="row", squeeze=False)
    found = next(iter(rows.values())).found
    panels[0, 0].set_ylabel(upward(summary.headline, found))
    panels[1, 0].set_ylabel("accuracy on test images, %")
    for column, (setting, curves) in enumerate(columns.items()):
        _references(panels[0, column], panels[1, column], rows, named=column == len(columns) - 1)
        for curve in curves:
            _draw(panels[0, column], panels[1, column], curve)
        panels[0, column].legend(loc="lower left", bbox_to_anchor=(0, 1), fontsize=9)
        _across(panels[1, column], setting, curves)
    for axes in panels.ravel():
        axes.margins(x=0.16, y=0.1)
    figure.align_ylabels(panels[:, 0])
    if found.sign < 0:
        panels[0, 0].invert_yaxis()
    note(figure, summary.data.notice)
    return figure


def _curves(summary: Summary, rows: Mapping[str, Ranked]) -> list[_Curve]:
    styles = looks([sweep.name for sweep in summary.sweeps], UNDEFENDED)
    found: list[_Curve] = []
    for sweep in summary.sweeps:
        points = tuple((value, rows[defense]) for value, defense in sweep.points if defense in rows)
        if len(points) > 1:
            found.append(_Curve(sweep.name, sweep.setting, points, styles[sweep.name]))
    return found


def _draw(leak: Axes, accuracy: Axes, curve: _Curve) -> None:
    rows = [one for _, one in curve.points]
    lengths = [whiskers(one.found) for one in rows]
    deviations = [100 * (one.row.utility.deviation or 0.0) for one in rows]
    heights = (
        (leak, [one.mean for one in rows], [[low for (low,), _ in lengths], [high for _, (high,) in lengths]]),
        (accuracy, [_percent(one) for one in rows], deviations),
    )
    for axes, means, errors in heights:
        axes.errorbar(
            curve.values,
            means,
            yerr=errors,
            color=curve.look.colour,
            marker=curve.look.marker,
            linewidth=1.6,
            elinewidth=1.2,
            markersize=6,
            label=curve.name,
            zorder=3,
        )


def _references(leak: Axes, accuracy: Axes, rows: Mapping[str, Ranked], *, named: bool) -> None:
    """What the mean image scores, and what there is without a defense; named beside the last column."""
    reading = (first := next(iter(rows.values()))).row.reading(first.row.headline)
    if reading and reading.trivial is not None:
        reference(leak, reading.trivial, wording.anchor_label(reading.to_beat) if named else "", firm=True)
    if (undefended := rows.get(UNDEFENDED)) is not None:
        name = "no defense" if named else ""
        reference(leak, undefended.mean, name, firm=False)
        reference(accuracy, _percent(undefended), name, firm=False)


def _across(axes: Axes, setting: str, curves: Sequence[_Curve]) -> None:
    values = sorted({value for curve in curves for value in curve.values})
    if values[0] > 0 and values[-1] / values[0] >= FAR_APART:
        axes.set_xscale("log")
    if len(values) <= _MOST_TICKS:
        axes.xaxis.set_major_locator(FixedLocator(values))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel(setting.replace("_", " "))


def _percent(one: Ranked) -> float:
    # Where all attacks are active nobody trained as agreed, and no point is drawn.
    return math.nan if one.row.utility.mean is None else 100 * one.row.utility.mean
