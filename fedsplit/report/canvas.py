"""One look for all figures: paper, ink, type, and colours that colour-blind readers can tell apart.

Colours: Okabe, Ito, "Color Universal Design", 2008.
"""

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.typing import RcKeyType

INK = "#1f2933"
SOFT = "#6b7785"
FAINT = "#d5dbe1"
WARNING = "#9a3412"

DOTS_PER_INCH = 160

STRIP = 0.26
"""Inches at the bottom of a figure that belong to its note."""

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

MOST_CLASSES = len(_COLOURS) * 3
"""That can be told apart by colour and marker in a cloud of points."""

_STYLE: dict[RcKeyType, str | int | float] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.dpi": DOTS_PER_INCH,
}


@dataclass(frozen=True)
class Look:
    """How one defense is drawn, the same in every figure."""

    colour: str
    marker: str


def looks(defenses: Sequence[str], undefended: str) -> dict[str, Look]:
    """By name; the undefended row is ink. Beyond seven others colours come again, each time with another marker."""
    others = [defense for defense in defenses if defense != undefended]
    found = {
        defense: Look(_COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)])
        for index, defense in enumerate(others)
    }
    return {undefended: Look(INK, "o"), **found}


def class_looks(count: int) -> tuple[Look, ...]:
    """How each class is drawn: seven colours, then the same ones with other markers; at most MOST_CLASSES."""
    return tuple(Look(_COLOURS[index % len(_COLOURS)], _MARKERS[index // len(_COLOURS)]) for index in range(count))


def canvas(width: float, height: float) -> Figure:
    """An empty figure; width and height in inches. It belongs to nobody but the caller."""
    return Figure(figsize=(width, height), layout="constrained")


def style() -> AbstractContextManager[None]:
    """The block in which figures are drawn and saved."""
    return matplotlib.rc_context(_STYLE)


def note(figure: Figure, notice: str) -> None:
    """The words that every output of this data must carry, in a strip of their own, wherever the file travels."""
    if not notice:
        return
    strip = STRIP / figure.get_figheight()
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(0, strip, 1, 1 - strip))
    figure.text(0.01, strip / 2, f"Data: {notice}", fontsize=8.5, color=WARNING, va="center")


def png(figure: Figure) -> bytes:
    """The picture, the same bytes for the same figure."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
