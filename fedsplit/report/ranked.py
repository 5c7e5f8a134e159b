"""The worst valid attack on each defense, and what all figures that rank them draw alike."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from fedsplit.report import wording
from fedsplit.report.canvas import INK, SOFT, Look, looks
from fedsplit.report.estimate import Estimate
from fedsplit.report.rows import UNDEFENDED, Row, Summary


@dataclass(frozen=True)
class Ranked:
    """The worst valid attack of one defense, its headline score, and how the defense is drawn."""

    row: Row
    found: Estimate
    mean: float
    look: Look


def ranked(summary: Summary, threat: str) -> list[Ranked]:
    """One per defense that has a valid attack with a finite headline, in the order of the table."""
    styles = looks(summary.defenses(threat), UNDEFENDED)
    worst = [row for defense in summary.defenses(threat) if (row := summary.worst(threat, defense))]
    return [
        Ranked(row, found, found.mean, styles[row.defense])
        for row in worst
        if (found := headline(row)) and found.mean is not None
    ]


@dataclass(frozen=True)
class Curve:
    """The ranked rows of one sweep as they are drawn: (value, row), two or more, by ascending value."""

    name: str
    setting: str
    points: tuple[tuple[float, Ranked], ...]
    look: Look

    @property
    def values(self) -> list[float]:
        """Of the setting."""
        return [value for value, _ in self.points]


def curves(summary: Summary, rows: Sequence[Ranked]) -> list[Curve]:
    """The sweeps of which two or more rows are ranked."""
    by_name = {one.row.defense: one for one in rows}
    styles = looks([sweep.name for sweep in summary.sweeps], UNDEFENDED)
    found: list[Curve] = []
    for sweep in summary.sweeps:
        points = tuple((value, by_name[defense]) for value, defense in sweep.points if defense in by_name)
        if len(points) > 1:
            found.append(Curve(sweep.name, sweep.setting, points, styles[sweep.name]))
    return found


def headline(row: Row) -> Estimate | None:
    """The estimate of the row's headline metric."""
    reading = row.reading(row.headline)
    return reading.estimate if reading else None


def whiskers(found: Estimate) -> list[list[float]]:
    """Lengths below and above the mean; none where there is no interval."""
    if found.mean is None or found.low is None or found.high is None:
        return [[0.0], [0.0]]
    return [[max(found.mean - found.low, 0.0)], [max(found.high - found.mean, 0.0)]]


def upward(metric: str, found: Estimate) -> str:
    """The label of an axis on which the upper end is worse."""
    return f"{wording.metric_label(metric, found)} (up leaks more \u2192)"


def rightward(metric: str, found: Estimate) -> str:
    """The label of an axis on which the right end is worse."""
    return f"{wording.metric_label(metric, found)}, worst attack (right leaks more \u2192)"


def anchor_lines(axes: Axes, row: Row, *, upright: bool) -> list[Artist]:
    """A thin line per anchor with its name on it; the one to beat is drawn firmly."""
    reading = row.reading(row.headline)
    drawn: list[Artist] = []
    for anchor in reading.anchors if reading else ():
        if anchor.score is None:
            continue
        firm = reading is not None and anchor.name == reading.to_beat
        line, colour = ("--" if firm else ":"), (INK if firm else SOFT)
        rule = axes.axvline if upright else axes.axhline
        drawn.append(rule(anchor.score, color=colour, linestyle=line, linewidth=1.1, zorder=1))
        name = axes.annotate(
            wording.anchor_label(anchor.name),
            (anchor.score, 0.0) if upright else (0.0, anchor.score),
            xycoords=("data", "axes fraction") if upright else ("axes fraction", "data"),
            xytext=(-3, 5) if upright else (5, 3),
            textcoords="offset points",
            rotation=90 if upright else 0,
            fontsize=8,
            color=colour,
            ha="right" if upright else "left",
            va="bottom",
        )
        drawn.append(name)
    return drawn


def reference(axes: Axes, score: float, name: str, *, firm: bool) -> None:
    """A line across the axes, with its name to the right of them, where no data are."""
    colour = INK if firm else SOFT
    axes.axhline(score, color=colour, linestyle="--" if firm else ":", linewidth=1.1, zorder=1)
    axes.annotate(
        name,
        (1.0, score),
        xycoords=("axes fraction", "data"),
        xytext=(5, 0),
        textcoords="offset points",
        fontsize=8,
        color=colour,
        va="center",
    )
