"""The table before it is drawn: the same columns, lines and remarks for the terminal, Markdown and the page."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedsplit.report import wording
from fedsplit.report.rows import Bounded, Row, Summary


@dataclass(frozen=True)
class Measured:
    """A score and its interval in words; the interval may be empty."""

    text: str
    interval: str = ""


@dataclass(frozen=True)
class Line:
    """One line, column by column. defense, utility: empty where the line above tells them already.

    mark: on the worst attack of a defense, the words that say so. number, reason: of an invalid line, whose scores are
    struck through; 0 and empty for a valid one.
    """

    defense: str
    utility: str
    attack: str
    settings: tuple[str, ...]
    scores: tuple[Measured, ...]
    mark: str = ""
    number: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Grid:
    """settings, scores: headers after defense, accuracy, attack; a setting has a column where the rows differ in it.

    privacy: what is proven of defenses, or why nothing is, a sentence each.
    """

    title: str
    notice: str
    settings: tuple[str, ...]
    scores: tuple[str, ...]
    lines: tuple[Line, ...]
    anchors: tuple[Line, ...]
    """And then bounds."""
    remarks: tuple[str, ...]
    privacy: tuple[str, ...] = ()

    @property
    def headers(self) -> tuple[str, ...]:
        """All headers from left to right."""
        return ("defense", "accuracy, %", "attack", *self.settings, *self.scores)


def grid(summary: Summary) -> Grid:
    """One line per row of the summary, then one per anchor, then one per defense and bound that holds for it."""
    rows = summary.rows
    metrics = [_MetricColumn(metric, rows) for metric in summary.metrics]
    varied = [setting for setting in _SETTINGS if len({_SETTINGS[setting](row) for row in rows}) > 1]
    return Grid(
        title=f"{summary.scenario}: what each attack rebuilds, and what stopping it costs",
        notice=summary.data.notice,
        settings=tuple(varied),
        scores=(*(metric.header for metric in metrics), "leaked, %"),
        lines=_lines(rows, metrics, varied),
        anchors=(*_anchor_lines(rows, metrics, varied), *_bound_lines(rows, metrics, varied)),
        remarks=_remarks(summary, varied),
        privacy=_privacy(summary),
    )


_SETTINGS = {
    "threat": lambda row: row.threat,
    "leak": wording.leak_words,
    "seeds": lambda row: str(len(row.seeds)),
}


class _MetricColumn:
    """One metric down all rows: its header, and as many decimals as its intervals allow."""

    def __init__(self, metric: str, rows: Sequence[Row]) -> None:
        self.metric = metric
        self.readings = [reading for row in rows if (reading := row.reading(metric))]
        self.digits = wording.decimals(reading.estimate for reading in self.readings)
        self.header = wording.metric_header(metric, self.readings[0].estimate) if self.readings else metric

    def score(self, row: Row) -> Measured:
        reading = row.reading(self.metric)
        if reading is None:
            return Measured(wording.ABSENT)
        found = reading.estimate
        return Measured(wording.number(found.mean, self.digits), wording.bounds(found, self.digits))

    def anchor(self, name: str) -> Measured:
        """The anchor's score: one number, or the lowest and the highest where the rows have other targets."""
        scores = [score for reading in self.readings if (score := reading.anchor(name)) is not None]
        if not scores:
            return Measured(wording.ABSENT)
        low, high = wording.number(min(scores), self.digits), wording.number(max(scores), self.digits)
        return Measured(low if low == high else f"{low} to {high}")

    def bound(self, found: Bounded) -> Measured:
        """The number with its direction, in the column of the metric that it is about."""
        return Measured(wording.limit(found, self.digits) if found.metric == self.metric else "")


def _lines(rows: Sequence[Row], metrics: Sequence[_MetricColumn], varied: Sequence[str]) -> tuple[Line, ...]:
    lines: list[Line] = []
    told, notes = ("", ""), 0
    for row in rows:
        first = (row.threat, row.defense) != told
        told = (row.threat, row.defense)
        notes += not row.valid
        lines.append(
            Line(
                defense=row.defense if first else "",
                utility=wording.percent(row.utility) if first else "",
                attack=wording.attack(row),
                settings=tuple(_SETTINGS[setting](row) for setting in varied),
                scores=(*(metric.score(row) for metric in metrics), Measured(wording.leaked(row))),
                mark=wording.worst_of(row),
                number=0 if row.valid else notes,
                reason=wording.reason(row),
            )
        )
    return tuple(lines)


def _anchor_lines(rows: Sequence[Row], metrics: Sequence[_MetricColumn], varied: Sequence[str]) -> tuple[Line, ...]:
    names = dict.fromkeys(anchor.name for row in rows for reading in row.readings for anchor in reading.anchors)
    return tuple(
        Line(
            defense="" if index else "anchors",
            utility="",
            attack=wording.anchor_label(name),
            settings=("",) * len(varied),
            scores=(*(metric.anchor(name) for metric in metrics), Measured("")),
        )
        for index, name in enumerate(names)
    )


def _to_beat(summary: Summary) -> tuple[str, ...]:
    names = (reading.to_beat for row in summary.rows if (reading := row.reading(row.headline)))
    return tuple(dict.fromkeys(wording.anchor_label(name) for name in names))


def _bound_lines(rows: Sequence[Row], metrics: Sequence[_MetricColumn], varied: Sequence[str]) -> tuple[Line, ...]:
    """What is the same for several attacks is told once."""
    told = {
        (
            f"{wording.bound_label(found.name)} on {row.defense}",
            tuple(_SETTINGS[setting](row) for setting in varied),
            (*(metric.bound(found) for metric in metrics), Measured("")),
        ): None
        for row in rows
        for found in row.bounds
        if found.value is not None
    }
    return tuple(
        Line("" if index else "bounds", "", name, settings, scores)
        for index, (name, settings, scores) in enumerate(told)
    )


def _privacy(summary: Summary) -> tuple[str, ...]:
    """Each statement once, with the threats that it is for where there are several."""
    threats: dict[tuple[str, str], dict[str, None]] = {}
    for row in summary.rows:
        for words in row.privacy:
            threats.setdefault((row.defense, words), {})[row.threat] = None
    return tuple(
        f"{defense} under {', '.join(under)}: {words}." if len(summary.threats) > 1 else f"{defense}: {words}."
        for (defense, words), under in threats.items()
    )


def _remarks(summary: Summary, varied: Sequence[str]) -> tuple[str, ...]:
    row = summary.rows[0]
    plural = "" if len(row.seeds) == 1 else "s"
    told = {
        "threat": f"threat {row.threat}",
        "leak": f"leak {wording.leak_words(row)}",
        "seeds": f"{len(row.seeds)} seed{plural} per row",
    }
    everywhere = ", ".join(words for setting, words in told.items() if setting not in varied)
    spread = any(row.utility.deviation is not None for row in summary.rows)
    return (
        *([f"All rows: {everywhere}."] if everywhere else []),
        "↑ higher leaks more, ↓ lower leaks more.",
        *wording.interval_sentences(summary),
        *(["± is the standard deviation between seeds."] if spread else []),
        *([wording.HIJACKED] if any(row.hijacked for row in summary.rows) else []),
        f"Leaked: where {' or '.join(summary.headlines)} lies from {' or '.join(_to_beat(summary))} (0 %) to the same "
        "attack without a defense (100 %).",
        *wording.evaluator_sentences(summary),
        *wording.bound_sentences(summary),
    )
