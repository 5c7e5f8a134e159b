"""Private images beside what an attack rebuilt: never chosen by hand, always the best, the median and the worst."""

import textwrap
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from fedsplit.report import wording
from fedsplit.report.canvas import DOTS_PER_INCH, INK, SOFT, WARNING
from fedsplit.report.rows import Entry, Row, Summary

_PICTURE = 1.3
"""Inches of a picture's longer side, roughly: every pixel becomes a whole number of dots."""

_GAP = 0.12
_LINE = 0.155
_MARGIN = 0.15
_ACROSS = 6
_MEDIAN = 1
_NAME = 17
"""Characters of a name that fit above a picture."""

_SMALL_NAME = 21
"""The same in smaller letters."""

_SCORE = 24
"""Characters of a score that fit beside a picture."""

_METRICS_SHOWN = 3
_PICKS = ("best guess", "median", "worst guess")


def gallery(row: Row, entry: Entry, notice: str) -> Figure:
    """One outcome: best, median and worst target by the headline; its scores, private, mean image, rebuilt."""
    exhibit = entry.exhibit
    width, height = _picture_size(exhibit.private)
    left, top, step = _MARGIN + 1.6, _MARGIN + 3 * _LINE, height + _GAP
    right = left + 3 * width + 2 * _GAP
    figure, axes = _sheet(right + _MARGIN, top + 3 * step, notice)
    title = wording.clipped(f"{row.defense}, {row.attack}, seed {entry.outcome.seed}", int(13 * right))
    _say(axes, _MARGIN, _MARGIN, title if entry.outcome.valid else f"{title} (invalid)", ha="left", color=SOFT)
    for column, name in enumerate((wording.original(row), "mean image", "rebuilt")):
        _say(axes, left + column * (width + _GAP) + width / 2, top - 0.06, name, weight="bold", va="bottom")
    for line, pick in enumerate(_PICKS):
        y = top + line * step
        _say(axes, _MARGIN, y, pick, ha="left", weight="bold")
        for column, images in enumerate((exhibit.private, exhibit.anchor, exhibit.reconstruction)):
            _show(axes, images[line], left + column * (width + _GAP), y, width, height)
        scores = _scores(row, entry, exhibit.picks[line])[:_METRICS_SHOWN]
        words = "\n".join(textwrap.fill(score, width=_SCORE) for score in scores)
        _say(axes, _MARGIN, y + 1.3 * _LINE, words, size=8, ha="left")
    return figure


def overview(summary: Summary, threat: str) -> Figure | None:
    """For each defense, undefended first, the median target of its worst attack: private, and rebuilt below."""
    rows = [row for defense in summary.defenses(threat) if (row := summary.worst(threat, defense))]
    if not rows:
        return None
    columns = [_Column(row) for row in rows]
    width, height = _picture_size(columns[0].entry.exhibit.private)
    heading = max(len(column.title) + len(column.subtitle) for column in columns) * _LINE + 0.1
    band = heading + 2 * height + _GAP + (max(len(column.score) for column in columns) + 1) * _LINE
    left, across = _MARGIN + 0.7, min(len(columns), _ACROSS)
    bands = -(-len(columns) // across)
    figure, axes = _sheet(left + across * (width + _GAP) - _GAP + _MARGIN, _MARGIN + bands * band, summary.data.notice)
    for index, column in enumerate(columns):
        x = left + (index % across) * (width + _GAP)
        y = _MARGIN + (index // across) * band + heading
        if index % across == 0:
            _say(axes, _MARGIN, y + height / 2, wording.original(column.row), ha="left", va="center")
            _say(axes, _MARGIN, y + height + _GAP + height / 2, "rebuilt", ha="left", va="center")
        _overview_column(axes, column, x, y, width, height)
    return figure


@dataclass(frozen=True)
class _Column:
    """One defense of the overview, by its worst attack: what stands above and below its pictures, line by line."""

    row: Row

    @property
    def entry(self) -> Entry:
        return self.row.entries[0]

    @property
    def title(self) -> list[str]:
        # A swept setting may fill a line, and what it is set to begins the next one then.
        return _lines(self.row.defense.replace("=", " =\N{NO-BREAK SPACE}"), _NAME, 4)

    @property
    def subtitle(self) -> list[str]:
        return _lines(self.row.attack, _SMALL_NAME, 2)

    @property
    def score(self) -> list[str]:
        first, *_ = (*_scores(self.row, self.entry, self.entry.exhibit.picks[_MEDIAN]), "")
        return _lines(first, _SMALL_NAME, 2)


def _overview_column(axes: Axes, column: _Column, x: float, y: float, width: float, height: float) -> None:
    exhibit, middle = column.entry.exhibit, x + width / 2
    above = y - 0.06 - len(column.subtitle) * _LINE
    _say(axes, middle, above, "\n".join(column.title), weight="bold", va="bottom")
    _say(axes, middle, y - 0.06, "\n".join(column.subtitle), size=8, color=SOFT, va="bottom")
    _show(axes, exhibit.private[_MEDIAN], x, y, width, height)
    _show(axes, exhibit.reconstruction[_MEDIAN], x, y + height + _GAP, width, height)
    _say(axes, middle, y + 2 * height + _GAP + 0.05, "\n".join(column.score), size=8)


def _scores(row: Row, entry: Entry, target: int) -> list[str]:
    """`name value unit` for one target, the headline first, of the metrics that have one value per target."""
    units = {metric: score.unit for metric, score in entry.outcome.scores.items()}
    values = sorted(entry.exhibit.values, key=lambda named: named[0] != row.headline)
    return [
        f"{metric} {wording.significant(float(column[target]))} {units.get(metric, '')}".strip()
        for metric, column in values
    ]


def _sheet(width: float, height: float, notice: str) -> tuple[Figure, Axes]:
    """White paper measured in inches from its upper left corner, with the notice at the bottom."""
    strip = 2 * _LINE if notice else 0.0
    figure = Figure(figsize=(width, height + strip))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height + strip, 0)
    axes.axis("off")
    if notice:
        words = textwrap.fill(f"Data: {notice}", width=int(width * 13))
        _say(axes, _MARGIN, height + strip / 2, words, ha="left", va="center", size=8, color=WARNING)
    return figure, axes


def _picture_size(images: Tensor) -> tuple[float, float]:
    """images: (n, channels, height, width). (width, height) in inches."""
    rows, columns = images.shape[-2:]
    dots = max(round(_PICTURE * DOTS_PER_INCH / max(rows, columns)), 1)
    return columns * dots / DOTS_PER_INCH, rows * dots / DOTS_PER_INCH


def _show(axes: Axes, image: Tensor, x: float, y: float, width: float, height: float) -> None:
    """image: (channels, height, width) in [0, 1], grey unless it has three channels."""
    pixels = image.detach().float().clamp(0, 1)
    colour = pixels.permute(1, 2, 0) if len(pixels) == 3 else pixels[:1].expand(3, -1, -1).permute(1, 2, 0)
    extent = (x, x + width, y + height, y)
    axes.imshow(colour.numpy(), extent=extent, interpolation="nearest", aspect="auto")


def _say(
    axes: Axes,
    x: float,
    y: float,
    words: str,
    *,
    size: float = 9,
    color: str = INK,
    weight: str = "normal",
    ha: Literal["left", "center", "right"] = "center",
    va: Literal["top", "center", "bottom"] = "top",
) -> None:
    axes.text(x, y, words, fontsize=size, color=color, fontweight=weight, ha=ha, va=va)


def _lines(words: str, width: int, most: int) -> list[str]:
    return textwrap.wrap(words, width=width, max_lines=most, placeholder="…")
