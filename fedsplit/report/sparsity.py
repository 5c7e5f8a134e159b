"""How sparse the client segment is under each defense, and how much an attack rebuilds from what is left."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from fedsplit.report import wording
from fedsplit.report.canvas import FAINT, INK, SOFT, Look, canvas, looks, note
from fedsplit.report.curves import FAR_APART
from fedsplit.report.estimate import Spread
from fedsplit.report.ranked import Ranked, ranked, reference, upward, whiskers
from fedsplit.report.rows import UNDEFENDED, Row, Summary

_DENSE = 0.999
"""Share of active values from which a block is no code: of many numbers, a few are zero by chance."""

_NAME = 14
"""Characters of a block's name that fit above its bar."""

_TOLD = 0.0005
"""The least deviation that is more than 0.0 %."""

_PIXEL_METRIC = "psnr"
"""Shown beside the headline where it was measured: it follows the squared error, which a projection bounds."""


def active_values(summary: Summary, threat: str) -> Figure | None:
    """Per defense, from left to right along the client segment: the share of each block's values that is not zero.

    None where no block of any row is sparse.
    """
    rows = _one_per_defense(summary, threat)
    if not any(_codes(row) for row in rows):
        return None
    styles = looks(summary.defenses(threat), UNDEFENDED)
    across = max(len(row.blocks) for row in rows)
    figure = canvas(max(1.9 + 1.6 * across, 5.6), 0.43 * len(rows) + 0.9)
    panels = figure.subplots(1, across, sharex=True, sharey=True, squeeze=False)[0]
    for column, axes in enumerate(panels):
        for line, row in enumerate(rows):
            if column < len(row.blocks):
                block = row.blocks[column]
                _bar(axes, line, block, row.active(block), styles[row.defense])
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
        axes.spines["left"].set_visible(False)
        axes.set_xticks([])
    panels[0].set_xlim(0, 1.02)
    panels[0].set_ylim(len(rows) - 0.3, -0.62)
    panels[0].set_yticks(range(len(rows)), [row.defense for row in rows], fontsize=9, color=INK)
    panels[0].set_title("active values of each client block, %", fontsize=9, fontweight="normal", color=SOFT)
    note(figure, summary.data.notice)
    return figure


def leak_by_activity(summary: Summary, threat: str) -> Figure | None:
    """The worst attack's headline (and PSNR) against active values per pixel of the first sparse client block.

    None where fewer than two ranked rows have such a block.
    """
    found = ranked(summary, threat)
    coded = [(one, codes.mean) for one in found if (codes := _codes(one.row)) and codes.mean is not None]
    if len(coded) < 2:
        return None
    others = [metric for metric in (_PIXEL_METRIC,) if metric != summary.headline and metric in summary.metrics]
    metrics = (summary.headline, *others)
    figure = canvas(8.4, 0.9 + 2.7 * len(metrics))
    panels = figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
    for axes, metric in zip(panels, metrics, strict=True):
        _against_activity(axes, metric, coded)
        axes.axvline(1.0, color=INK, linestyle="--", linewidth=1.1, zorder=1)
        dense = next((one for one in found if one.row.undefended and not _codes(one.row)), None)
        if dense and (reading := dense.row.reading(metric)) and reading.estimate.mean is not None:
            reference(axes, reading.estimate.mean, "no defense", firm=False)
    _name_threshold(panels[0])
    # Rows of one kind lie close together, so their names are listed and not put beside them.
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize=9)
    figure.align_ylabels(panels)
    _activity_axis(panels[-1], [mean for _, mean in coded])
    note(figure, summary.data.notice)
    return figure


def _one_per_defense(summary: Summary, threat: str) -> list[Row]:
    """Any row of each defense will do: activity belongs to the training and not to the attack."""
    rows = {row.defense: row for row in reversed(summary.under(threat))}
    return [rows[defense] for defense in summary.defenses(threat) if rows[defense].blocks]


def _codes(row: Row) -> Spread | None:
    """Active values per pixel of the first client block that is sparse; None where none is."""
    shares = ((block, row.active(block).mean) for block in row.blocks)
    return next((row.active_per_pixel(block) for block, share in shares if share and share < _DENSE), None)


def _bar(axes: Axes, line: int, block: str, share: Spread, look: Look) -> None:
    """A full track for all values, filled as far as they are active, below the block's name and the number."""
    middle, mean = line + 0.14, share.mean or 0.0
    # Next to a long name there is no room for a deviation that says nothing.
    told = share if share.deviation and share.deviation >= _TOLD else Spread(share.mean, None)
    axes.barh(middle, 1, height=0.2, color=FAINT, zorder=1)
    axes.barh(middle, mean, height=0.2, color=look.colour, zorder=2)
    if told.deviation:
        axes.errorbar(mean, middle, xerr=told.deviation, color=INK, elinewidth=1.0, capsize=1.5, zorder=3)
    axes.text(0, line - 0.06, wording.clipped(block, _NAME), fontsize=7.5, color=SOFT, va="bottom")
    axes.text(1, line - 0.06, wording.percent(told), fontsize=7.5, color=INK, va="bottom", ha="right")


def _against_activity(axes: Axes, metric: str, coded: Sequence[tuple[Ranked, float]]) -> None:
    for one, mean in coded:
        reading, codes = one.row.reading(metric), _codes(one.row)
        if reading is None or reading.estimate.mean is None or codes is None:
            continue
        axes.errorbar(
            mean,
            reading.estimate.mean,
            xerr=codes.deviation,
            yerr=whiskers(reading.estimate),
            fmt=one.look.marker,
            color=one.look.colour,
            markersize=8,
            elinewidth=1.1,
            label=one.row.defense,
            zorder=3,
        )
        axes.set_ylabel(upward(metric, reading.estimate))
        if reading.estimate.sign < 0 and not axes.yaxis_inverted():
            axes.invert_yaxis()
    axes.margins(x=0.08, y=0.12)


def _name_threshold(axes: Axes) -> None:
    """Above the axes, where no data are."""
    axes.annotate(
        "as many as pixels",
        (1.0, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(3, 3),
        textcoords="offset points",
        fontsize=8,
        color=INK,
        ha="right",
    )


def _activity_axis(axes: Axes, values: Sequence[float]) -> None:
    if max(*values, 1.0) / min(*values, 1.0) >= FAR_APART:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("active values per pixel, in the first sparse client block")
