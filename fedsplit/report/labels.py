"""Puts names beside points so that they hide neither each other nor a point, as far as there is room."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

_GAPS = (8.0, 18.0, 30.0, 46.0, 64.0, 84.0)
"""Points between a mark and its name; the nearest free place wins."""

_DIRECTIONS = ((1, 0), (1, 1), (1, -1), (0, 1), (0, -1), (-1, 0), (-1, 1), (-1, -1))
"""(across, up), in the order in which they read well."""


@dataclass(frozen=True)
class Label:
    """A name for the mark at (x, y) in data coordinates."""

    text: str
    x: float
    y: float
    colour: str


@dataclass(frozen=True)
class _Place:
    """Where a name could stand, in display coordinates, and how far from its mark, in points."""

    box: Bbox
    gap: float


def place(axes: Axes, labels: Sequence[Label], drawn: Sequence[Artist]) -> None:
    """Draws the labels one by one, each where it covers least. drawn: what they should not cover."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    # The layout must be final before anything is measured.
    figure.draw_without_rendering()
    dots = figure.dpi / 72
    frame = axes.get_window_extent()
    boxes = (artist.get_window_extent().padded(dots) for artist in drawn)
    occupied = [*boxes, *(_around(axes, label, 5 * dots) for label in labels)]
    for label in labels:
        text = axes.text(0, 0, label.text, color=label.colour, fontsize=9.5, transform=None)
        size = text.get_window_extent()
        mark = _around(axes, label, 0)
        found = min(_places(mark, size, dots), key=lambda place: _cost(place, occupied, frame))
        text.remove()
        _draw(axes, label, mark, found, dots)
        occupied.append(found.box)


def _draw(axes: Axes, label: Label, mark: Bbox, place: _Place, dots: float) -> None:
    # In points from the mark, so that the name stays where it is when the figure is saved at another resolution.
    offset = ((place.box.x0 - mark.x0) / dots, (place.box.y0 + place.box.y1 - 2 * mark.y0) / 2 / dots)
    leader = {"arrowstyle": "-", "color": label.colour, "linewidth": 0.7, "alpha": 0.6, "shrinkA": 0, "shrinkB": 5}
    axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=offset,
        textcoords="offset points",
        va="center",
        color=label.colour,
        fontsize=9.5,
        annotation_clip=False,
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
        arrowprops=leader if place.gap > _GAPS[0] else None,
    )


def _around(axes: Axes, label: Label, margin: float) -> Bbox:
    x, y = axes.transData.transform((label.x, label.y))
    return Bbox.from_extents(x - margin, y - margin, x + margin, y + margin)


def _places(mark: Bbox, size: Bbox, dots: float) -> Iterator[_Place]:
    for gap in _GAPS:
        for across, up in _DIRECTIONS:
            left = mark.x0 + across * gap * dots + size.width * (across - 1) / 2
            bottom = mark.y0 + up * gap * dots + size.height * (up - 1) / 2
            yield _Place(Bbox.from_bounds(left, bottom, size.width, size.height), gap)


def _cost(place: _Place, occupied: Sequence[Bbox], frame: Bbox) -> float:
    inside = Bbox.intersection(place.box, frame)
    outside = _area(place.box) - (_area(inside) if inside else 0.0)
    hidden = (Bbox.intersection(place.box, other) for other in occupied)
    return outside + sum(_area(box) for box in hidden if box)


def _area(box: Bbox) -> float:
    return abs(box.width * box.height)
