"""What a swept setting of a defense buys and what it costs: leak and accuracy against its value."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from fedsplit.report import wording
from fedsplit.report.canvas import canvas, note
from fedsplit.report.ranked import Curve, Ranked, curves, ranked, reference, upward, whiskers
from fedsplit.report.rows import UNDEFENDED, Summary

_MOST_TICKS = 6
_ACROSS = 4
FAR_APART = 8.0
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""


def leak_by_setting(summary: Summary, threat: str) -> Figure | None:
    """The headline of the worst attack, and accuracy below it, against each setting that differs between rows.

    One column per setting, so many of them beside each other. None where no two ranked rows differ in one number alone.
    """
    rows = ranked(summary, threat)
    columns: dict[str, list[Curve]] = {}
    for curve in curves(summary, rows):
        columns.setdefault(curve.setting, []).append(curve)
    if not columns:
        return None
    across = min(len(columns), _ACROSS)
    down = -(-len(columns) // across)
    figure = canvas(max(3.2 * across + 1.0, 5.6), 5.8 * down)
    room = figure.add_gridspec(2 * down, across)
    pairs: list[tuple[Axes, Axes]] = []
    for number, (setting, found) in enumerate(columns.items()):
        band, column = divmod(number, across)
        leak = figure.add_subplot(room[2 * band, column], sharey=pairs[0][0] if pairs else None)
        accuracy = figure.add_subplot(room[2 * band + 1, column], sharex=leak, sharey=pairs[0][1] if pairs else None)
        pairs.append((leak, accuracy))
        leak.tick_params(labelbottom=False, labelleft=not column)
        accuracy.tick_params(labelleft=not column)
        last = column == across - 1 or number == len(columns) - 1
        _references(leak, accuracy, {one.row.defense: one for one in rows}, named=last)
        for curve in found:
            _draw(leak, accuracy, curve)
        leak.legend(loc="lower left", bbox_to_anchor=(0, 1), fontsize=9)
        _across(accuracy, setting, found)
        if not column:
            leak.set_ylabel(upward(summary.headline, rows[0].found))
            accuracy.set_ylabel("accuracy on test images, %")
    for axes in figure.axes:
        axes.margins(x=0.16, y=0.1)
    figure.align_ylabels()
    if rows[0].found.sign < 0:
        pairs[0][0].invert_yaxis()
    note(figure, summary.data.notice)
    return figure


def _draw(leak: Axes, accuracy: Axes, curve: Curve) -> None:
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


def _across(axes: Axes, setting: str, found: Sequence[Curve]) -> None:
    values = sorted({value for curve in found for value in curve.values})
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
