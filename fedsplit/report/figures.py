"""The plots: what privacy costs, who is exposed, and when. Each takes the rows of one threat."""

from collections.abc import Sequence

import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from fedsplit.report import wording
from fedsplit.report.canvas import FAINT, INK, SOFT, canvas, looks, note
from fedsplit.report.estimate import Estimate
from fedsplit.report.labels import Label, place
from fedsplit.report.ranked import Ranked, anchor_lines, curves, headline, ranked, rightward, upward, whiskers
from fedsplit.report.rows import UNDEFENDED, Row, Summary

_BINS = 6
_TARGETS_PER_BIN = 8
_PANELS_ACROSS = 3


def privacy_utility(summary: Summary, threat: str) -> Figure | None:
    """Accuracy against the headline of each defense's worst attack; None where no attack is valid. Right leaks more.

    The strengths of one defense are joined, and named at the last value of what was swept.
    """
    worst = [one for one in ranked(summary, threat) if one.row.utility.mean is not None]
    if not worst:
        return None
    figure = canvas(7.6, 4.9)
    axes = figure.add_subplot()
    drawn: list[Artist] = []
    labels: list[Label] = []
    groups = _groups(summary, worst)
    styles = looks(list(groups), UNDEFENDED)
    for name, rows in groups.items():
        look = styles[name]
        means, accuracies = [one.mean for one in rows], [100 * (one.row.utility.mean or 0.0) for one in rows]
        lengths = [whiskers(one.found) for one in rows]
        bars = axes.errorbar(
            means,
            accuracies,
            xerr=[[low for (low,), _ in lengths], [high for _, (high,) in lengths]],
            yerr=[100 * (one.row.utility.deviation or 0.0) for one in rows],
            fmt=look.marker,
            linestyle="-",
            linewidth=1.2,
            color=look.colour,
            markersize=8,
            elinewidth=1.3,
            zorder=3,
        )
        drawn.extend(bars.lines[2])
        labels.append(Label(name, means[-1], accuracies[-1], look.colour))
    _privacy_axes(axes, summary, worst[0].found)
    note(figure, summary.data.notice)
    drawn.extend(anchor_lines(axes, worst[0].row, upright=True))
    place(axes, labels, drawn)
    return figure


def leak_by_distance(summary: Summary, threat: str) -> Figure | None:
    """Per image: the headline against the distance to the nearest auxiliary image, one panel per defense.

    A line joins the medians of bins with equally many images; grey is the undefended row. None without such scores, and
    where classes were rebuilt.
    """
    worst = [one for one in ranked(summary, threat) if _per_image(one.row) is not None]
    if not worst or worst[0].row.of_classes:
        return None
    across = min(len(worst), _PANELS_ACROSS)
    down = -(-len(worst) // across)
    figure = canvas(max(2.9 * across, 4.4), 2.3 * down + 0.8)
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    undefended = next((_per_image(one.row) for one in worst if one.row.undefended), None)
    for axes, one in zip(panels, worst, strict=False):
        _distance_panel(axes, one, undefended)
    for axes in panels[:2]:
        axes.legend(loc="lower left", fontsize=8, handlelength=1.8)
    for axes in panels[len(worst) :]:
        axes.set_visible(False)
    for axes in panels[: len(worst)][-across:]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("distance to nearest auxiliary image", fontsize=9)
    if worst[0].found.sign < 0:
        panels[0].invert_yaxis()
    figure.supylabel(upward(summary.headline, worst[0].found), fontsize=10)
    note(figure, summary.data.notice)
    return figure


def leak_by_round(summary: Summary, threat: str) -> Figure | None:
    """The worst attack of each defense at each attacked round of training; None where fewer than two were attacked."""
    rows = [row for row in summary.under(threat) if row.leak == "training" and row.valid and row.harm is not None]
    if len({row.round for row in rows}) < 2:
        return None
    figure = canvas(7.6, 4.2)
    axes = figure.add_subplot()
    styles = looks(summary.defenses(threat), UNDEFENDED)
    ends: list[Label] = []
    found: Estimate | None = None
    for defense in summary.defenses(threat):
        worst = _worst_by_round([row for row in rows if row.defense == defense])
        points = [(row.round, one) for row in worst if (one := headline(row))]
        if not points:
            continue
        look, found = styles[defense], points[0][1]
        lengths = torch.tensor([whiskers(one) for _, one in points]).squeeze(-1).T.numpy()
        rounds, means = [number for number, _ in points], [one.mean or 0.0 for _, one in points]
        axes.errorbar(rounds, means, yerr=lengths, color=look.colour, marker=look.marker, linewidth=1.6, markersize=6)
        ends.append(Label(defense, rounds[-1], means[-1], look.colour))
    assert found is not None
    axes.set_xlabel("round of training")
    axes.set_ylabel(upward(summary.headline, found))
    axes.set_xticks(sorted({row.round for row in rows}))
    axes.margins(x=0.12)
    if found.sign < 0:
        axes.invert_yaxis()
    note(figure, summary.data.notice)
    place(axes, ends, anchor_lines(axes, rows[0], upright=False))
    return figure


def _groups(summary: Summary, worst: Sequence[Ranked]) -> dict[str, list[Ranked]]:
    """By name, rows that are joined: each in the first sweep that it is in, or alone; in the order of the table."""
    groups: dict[str, list[Ranked]] = {}
    left = {one.row.defense: one for one in worst}
    for curve in curves(summary, worst):
        rows = [one for _, one in curve.points if one.row.defense in left]
        if len(rows) > 1:
            groups[curve.name if curve.name not in groups else f"{curve.name}, {curve.setting}"] = rows
            for one in rows:
                del left[one.row.defense]
    groups |= {name: [one] for name, one in left.items()}
    order = {one.row.defense: place for place, one in enumerate(worst)}
    return dict(sorted(groups.items(), key=lambda group: order[group[1][0].row.defense]))


def _privacy_axes(axes: Axes, summary: Summary, found: Estimate) -> None:
    axes.set_xlabel(rightward(summary.headline, found))
    axes.set_ylabel("accuracy on test images, %")
    axes.margins(x=0.14, y=0.16)
    # Deviations may reach above all that there is.
    axes.set_ylim(max(axes.get_ylim()[0], -5), min(axes.get_ylim()[1], 105))
    if found.sign < 0:
        axes.invert_xaxis()


def _per_image(row: Row) -> tuple[Tensor, Tensor] | None:
    """Distances and headline scores of all images of all seeds, without those that are not finite."""
    pairs = [(entry.exhibit.nearest, dict(entry.exhibit.values).get(row.headline)) for entry in row.entries]
    known = [(nearest, values) for nearest, values in pairs if values is not None]
    if not known:
        return None
    distances, scores = (torch.cat(column).double() for column in zip(*known, strict=True))
    finite = distances.isfinite() & scores.isfinite()
    return (distances[finite], scores[finite]) if finite.any() else None


def _medians(distances: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """(bins,) median distance and median score, in bins of equally many images."""
    order = distances.argsort()
    bins = max(1, min(_BINS, len(order) // _TARGETS_PER_BIN))
    parts = order.tensor_split(bins)
    middle = [(distances[part].quantile(0.5), scores[part].quantile(0.5)) for part in parts]
    return torch.stack([x for x, _ in middle]), torch.stack([y for _, y in middle])


def _distance_panel(axes: Axes, one: Ranked, undefended: tuple[Tensor, Tensor] | None) -> None:
    points = _per_image(one.row)
    assert points is not None
    axes.scatter(*points, s=7, color=one.look.colour, alpha=0.22, linewidths=0)
    if undefended is not None and not one.row.undefended:
        axes.plot(*_medians(*undefended), color=SOFT, linewidth=1.4, label=UNDEFENDED)
    axes.plot(*_medians(*points), color=one.look.colour, linewidth=2, marker="o", markersize=4)
    reading = one.row.reading(one.row.headline)
    if reading and reading.trivial is not None:
        name = wording.anchor_label(reading.to_beat)
        axes.axhline(reading.trivial, color=INK, linestyle="--", linewidth=0.9, label=name)
    axes.set_title(one.row.defense, color=one.look.colour, fontsize=10)
    axes.tick_params(color=FAINT)


def _worst_by_round(rows: Sequence[Row]) -> list[Row]:
    rounds = sorted({row.round for row in rows})
    return [max((row for row in rows if row.round == number), key=lambda row: row.harm or 0.0) for number in rounds]
