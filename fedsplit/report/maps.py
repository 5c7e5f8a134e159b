"""Released smashed data in two dimensions, by class: what an onlooker could tell apart without any attack, and how
far it was moved where deployed clients change it.

Principal components (Pearson 1901), and UMAP (McInnes, Healy, Melville, arXiv 1802.03426, 2018) where it is installed.
"""

import textwrap
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from fedsplit.records.exhibit import Exhibit
from fedsplit.report.canvas import FAINT, INK, MOST_CLASSES, SOFT, canvas, class_looks, note
from fedsplit.report.rows import Row, Summary

_PANELS_ACROSS = 4
_LEGEND_ACROSS = 6
_TITLE = 24
"""Characters of a name that fit above a panel."""
_NEIGHBOURS = 15
"""That UMAP keeps near each other: its own default."""


def component_map(summary: Summary, threat: str) -> Figure | None:
    """Per defense, for its first seed, every target at its first two principal components, coloured by class; hollow,
    and joined to it, where it would have been had the deployed client changed nothing.

    None where there are more classes than colours.
    """
    return _maps(summary, threat, lambda components: components[:, :2], ("component 1", "component 2"))


def neighbour_map(summary: Summary, threat: str) -> Figure | None:
    """The same with UMAP's places; None where it is not installed."""
    umap = _umap()
    return None if umap is None else _maps(summary, threat, lambda components: _placed(umap, components), ("", ""))


def _maps(summary: Summary, threat: str, project: Callable[[Tensor], Tensor], labels: tuple[str, str]) -> Figure | None:
    shown = [(row, row.entries[0].exhibit) for row in _one_per_defense(summary, threat)]
    shown = [(row, exhibit) for row, exhibit in shown if _has_map(exhibit)]
    classes = torch.cat([exhibit.labels for _, exhibit in shown]).unique().tolist() if shown else []
    if not 0 < len(classes) <= MOST_CLASSES:
        return None
    across = min(len(shown), _PANELS_ACROSS)
    down = -(-len(shown) // across)
    figure = canvas(max(2.2 * across, 4.4) + 0.3, 2.25 * down + 0.35 + 0.25 * -(-len(classes) // _LEGEND_ACROSS))
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes, (row, exhibit) in zip(panels, shown, strict=False):
        _clouds(axes, exhibit, project, classes)
        axes.set_title(textwrap.fill(row.defense, _TITLE, max_lines=2, placeholder="…"), fontsize=9.5, color=INK)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    names = [summary.data.classes[label] if label < len(summary.data.classes) else f"{label}" for label in classes]
    handles: list[Artist] = list(panels[0].collections[: len(classes)])
    if any(exhibit.clean is not None for _, exhibit in shown):
        handles, names = [*handles, _hollow()], [*names, "had nothing been changed"]
    figure.legend(
        handles, names, loc="outside upper center", ncols=min(len(names), _LEGEND_ACROSS), fontsize=8.5, markerscale=2
    )
    for axes in panels[: len(shown)][-across:]:
        axes.set_xlabel(labels[0], fontsize=8.5)
    for axes in panels[: len(shown) : across]:
        axes.set_ylabel(labels[1], fontsize=8.5)
    note(figure, summary.data.notice)
    return figure


def _one_per_defense(summary: Summary, threat: str) -> list[Row]:
    """The worst attack's row, or any: what was released is the same for all attacks on one leak."""
    any_row = {row.defense: row for row in reversed(summary.under(threat))}
    return [summary.worst(threat, defense) or any_row[defense] for defense in summary.defenses(threat)]


def _has_map(exhibit: Exhibit) -> bool:
    """Not where what was released is not finite, or every target released the same."""
    return bool(exhibit.map.isfinite().all() and exhibit.map.any())


def _clouds(axes: Axes, exhibit: Exhibit, project: Callable[[Tensor], Tensor], classes: list[int]) -> None:
    clean, count = exhibit.clean, len(exhibit.map)
    # One projection of both, or their places would not compare.
    places = project(exhibit.map if clean is None else torch.cat([exhibit.map, clean]))
    for label, look in zip(classes, class_looks(len(classes)), strict=True):
        own = places[:count][exhibit.labels == label]
        axes.scatter(own[:, 0], own[:, 1], s=12, color=look.colour, marker=look.marker, alpha=0.75, linewidths=0)
    if clean is not None:
        _moves(axes, places[count:], places[:count])
        for label, look in zip(classes, class_looks(len(classes)), strict=True):
            own = places[count:][exhibit.labels == label]
            axes.scatter(
                own[:, 0], own[:, 1], s=12, facecolor="none", edgecolor=look.colour, marker=look.marker, linewidths=0.5
            )
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_box_aspect(1)
    axes.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(FAINT)


def _moves(axes: Axes, before: Tensor, after: Tensor) -> None:
    lines = torch.stack([before[:, :2], after[:, :2]], dim=1)
    axes.add_collection(LineCollection([*lines.numpy()], colors=SOFT, linewidths=0.4, alpha=0.5, zorder=0.5))


def _hollow() -> Line2D:
    return Line2D([], [], linestyle="none", marker="o", markersize=3, markerfacecolor="none", markeredgecolor=SOFT)


def _umap() -> ModuleType | None:
    try:
        return import_module("umap")
    except ImportError:
        return None


def _placed(umap: ModuleType, components: Tensor) -> Tensor:
    neighbours = min(_NEIGHBOURS, len(components) - 1)
    # One thread: with more, the places would differ from call to call in spite of the seed.
    mapper = umap.UMAP(n_components=2, n_neighbors=neighbours, random_state=0, n_jobs=1)
    return torch.as_tensor(mapper.fit_transform(components.numpy()))
