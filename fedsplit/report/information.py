"""Which blocks of a partly frozen model a classification hangs on, and which an inversion."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedsplit.report.canvas import FAINT, INK, SOFT, canvas, note
from fedsplit.report.rows import Loss, Row, Summary

_BAR = 0.38


def block_information(summary: Summary, threat: str) -> Figure | None:
    """Per defense that froze blocks: each block's share of both losses' Fisher information, frozen blocks on grey.

    None where no row has two blocks of which it was measured.
    """
    # Any row of each defense will do: it belongs to the training and not to the attack.
    rows = {row.defense: row for row in reversed(summary.under(threat)) if len(row.informed) > 1}
    shown = [rows[defense] for defense in summary.defenses(threat) if defense in rows]
    if not shown:
        return None
    across = max(len(row.informed) for row in shown)
    figure = canvas(max(1.6 + 0.8 * across, 5.6), 0.5 + 1.9 * len(shown))
    for axes, row in zip(figure.subplots(len(shown), 1, squeeze=False)[:, 0], shown, strict=True):
        _panel(axes, row)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower left", ncols=len(names), fontsize=9)
    note(figure, summary.data.notice)
    return figure


def _panel(axes: Axes, row: Row) -> None:
    places = range(len(row.informed))
    for place, block in zip(places, row.informed, strict=True):
        if row.frozen(block):
            axes.axvspan(place - 0.5, place + 0.5, color=FAINT, alpha=0.6, linewidth=0, zorder=0, label="_frozen")
    sides: tuple[tuple[int, Loss, str, str], ...] = ((-1, "classification", SOFT, INK), (1, "inversion", INK, SOFT))
    for side, loss, colour, whisker in sides:
        found = [row.information(block, loss) for block in row.informed]
        axes.bar(
            [place + side * _BAR / 2 for place in places],
            [100 * (one.mean or 0.0) for one in found],
            yerr=[100 * (one.deviation or 0.0) for one in found],
            width=_BAR,
            color=colour,
            error_kw={"elinewidth": 1.0, "ecolor": whisker},
            label=loss,
            zorder=2,
        )
    axes.set_xlim(-0.5, len(row.informed) - 0.5)
    axes.set_xticks(places, row.informed, fontsize=8, color=INK)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel("share, %")
    axes.set_title(row.defense)
