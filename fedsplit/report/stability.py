"""How much of a result is the seed's: every victim training of a row beside their mean."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedsplit.report import wording
from fedsplit.report.canvas import INK, canvas, note
from fedsplit.report.estimate import spread
from fedsplit.report.ranked import Ranked, ranked, rightward
from fedsplit.report.rows import Summary


def leak_by_seed(summary: Summary, threat: str) -> Figure | None:
    """Per defense the worst attack's headline: a dot per seed, the mean and the deviation between seeds.

    None where every row has one seed.
    """
    rows = ranked(summary, threat)
    if not any(len(one.row.seeds) > 1 for one in rows):
        return None
    figure = canvas(7.6, 0.36 * len(rows) + 1.3)
    axes = figure.add_subplot()
    digits = wording.decimals(one.found for one in rows)
    for line, one in enumerate(rows):
        scores = _scores(one)
        found = spread(scores)
        colour = one.look.colour
        if found.mean is not None:
            deviation = found.deviation or 0.0
            axes.plot(
                [found.mean - deviation, found.mean + deviation], [line, line], color=colour, linewidth=5, alpha=0.3
            )
            axes.plot(found.mean, line, marker="|", color=colour, markersize=15, markeredgewidth=2)
        axes.scatter(scores, [line] * len(scores), s=22, facecolor="white", edgecolor=colour, linewidth=1.2, zorder=3)
        words = wording.number(found.mean, digits)
        if found.deviation is not None:
            words += f" ± {wording.number(found.deviation, digits)}"
        axes.annotate(words, (1.0, line), xycoords=("axes fraction", "data"), xytext=(6, 0),
                      textcoords="offset points", va="center", fontsize=9, color=INK)  # fmt: skip
    axes.set_yticks(range(len(rows)), [one.row.defense for one in rows], color=INK)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.06)
    axes.set_xlabel(rightward(summary.headline, rows[0].found))
    if rows[0].found.sign < 0:
        axes.invert_xaxis()
    note(figure, summary.data.notice)
    return figure


def _scores(one: Ranked) -> list[float]:
    found = (entry.outcome.scores[one.row.headline].mean for entry in one.row.entries)
    return [score for score in found if score is not None]
