"""One self-contained page: opens from the disk without network or script, in print and in the dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from fedsplit.report import wording
from fedsplit.report.folder import RunFolder, write_whole
from fedsplit.report.grid import grid
from fedsplit.report.matched import DROPS, MatchedLine, matched_lines
from fedsplit.report.pictures import GalleryPicture, Picture, galleries, plots
from fedsplit.report.rows import Row, Summary
from fedsplit.report.summary import summarise
from fedsplit.report.table import markdown
from fedsplit.report.template import PAGE

REPORT = "report.html"
TABLE = "table.md"
FIGURES = "figures"


@dataclass(frozen=True)
class Verdict:
    """One defense at a glance. share: the normalised leakage in percent; None where there is none."""

    defense: str
    utility: str
    attack: str
    mark: str
    score: str
    interval: str
    share: int | None
    traffic: str
    training: str


@dataclass(frozen=True)
class Checked:
    """One control over the seeds of a row; ok is None where it does not apply to a seed."""

    marks: tuple[tuple[int, bool | None, str], ...]


@dataclass(frozen=True)
class ControlLine:
    """The controls of one row, in the order of the columns."""

    row: Row
    checks: tuple[Checked, ...]


@dataclass(frozen=True)
class Failure:
    """What a failed control found, with the seeds for which it found just that."""

    control: str
    row: Row
    seeds: tuple[int, ...]
    detail: str


@dataclass(frozen=True)
class ThreatSection:
    """What the page shows of one threat."""

    threat: str
    verdicts: tuple[Verdict, ...]
    header: str
    matched: tuple[MatchedLine, ...]
    pictures: tuple[Picture, ...]


def write_report(root: Path) -> Path:
    """From what lies under `root`: joins the cells, writes the table, the figures and the page; returns the page.

    Raises DataError if no cell is finished or a file is broken.
    """
    run = RunFolder(root)
    joined = run.join()
    summary = summarise(joined, run.exhibits(), run.scenario())
    write_whole(root / TABLE, markdown(summary).encode())
    sections = [_section(summary, threat) for threat in summary.threats]
    shown = list(galleries(summary))
    (root / FIGURES).mkdir(exist_ok=True)
    for picture in (*(one for section in sections for one in section.pictures), *(one.picture for one in shown)):
        write_whole(root / FIGURES / f"{picture.name}.png", picture.content)
    write_whole(root / REPORT, _render(run, summary, sections, shown).encode())
    return root / REPORT


def _render(
    run: RunFolder, summary: Summary, sections: Sequence[ThreatSection], shown: Sequence[GalleryPicture]
) -> str:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = dict.fromkeys(anchor.name for row in summary.rows for one in row.readings for anchor in one.anchors)
    return environment.from_string(PAGE).render(
        summary=summary,
        table=grid(summary),
        sections=sections,
        drops=[wording.matched_header(drop) for drop in DROPS],
        matched_sentence=wording.MATCHED,
        galleries=_first_seeds(summary, shown),
        controls=_control_names(summary),
        control_lines=_control_lines(summary),
        failures=_failures(summary),
        anchors=[(wording.anchor_label(name), wording.anchor_sentence(name)) for name in names],
        intervals=wording.interval_sentences(summary),
        unfinished=run.unfinished(),
        scenario=run.scenario(),
        card=run.card(),
    )


def _section(whole: Summary, threat: str) -> ThreatSection:
    summary = whole.alone(threat)
    found = [reading.estimate for row in summary.rows if (reading := row.reading(summary.headline))]
    return ThreatSection(
        threat=threat,
        verdicts=tuple(_verdict(summary, threat, defense) for defense in summary.defenses(threat)),
        header=wording.metric_header(summary.headline, found[0]) if found else summary.headline,
        matched=matched_lines(summary, threat),
        pictures=tuple(plots(whole, threat)),
    )


def _verdict(summary: Summary, threat: str, defense: str) -> Verdict:
    row = summary.worst(threat, defense)
    any_row = row or next(one for one in summary.under(threat) if one.defense == defense)
    reading = row.reading(summary.headline) if row else None
    digits = wording.decimals(one.estimate for r in summary.rows if (one := r.reading(summary.headline)))
    crossing = any_row.entries[0].outcome.bytes_per_step
    return Verdict(
        defense=defense,
        utility=wording.percent(any_row.utility),
        attack=row.attack if row else "",
        mark=wording.worst_of(row) if row else "",
        score=wording.number(reading.estimate.mean, digits) if reading else wording.ABSENT,
        interval=wording.bounds(reading.estimate, digits) if reading else "",
        share=None if reading is None or reading.leaked is None else round(100 * reading.leaked),
        traffic=f"{wording.traffic(crossing.up)} ↑ {wording.traffic(crossing.down)} ↓",
        training=wording.seconds(any_row.training),
    )


def _control_names(summary: Summary) -> tuple[str, ...]:
    found = (name for row in summary.rows for entry in row.entries for name in entry.outcome.controls)
    return tuple(dict.fromkeys(found))


def _control_lines(summary: Summary) -> tuple[ControlLine, ...]:
    names = _control_names(summary)
    return tuple(ControlLine(row, tuple(_checked(row, name) for name in names)) for row in summary.rows)


def _checked(row: Row, name: str) -> Checked:
    found = [(entry.outcome.seed, entry.outcome.controls.get(name)) for entry in row.entries]
    return Checked(tuple((seed, one.ok if one else None, one.detail if one else "") for seed, one in found))


def _failures(summary: Summary) -> list[Failure]:
    failures: list[Failure] = []
    for line in _control_lines(summary):
        for name, check in zip(_control_names(summary), line.checks, strict=True):
            details = dict.fromkeys(detail for _, ok, detail in check.marks if ok is False)
            for detail in details:
                seeds = tuple(seed for seed, ok, found in check.marks if ok is False and found == detail)
                failures.append(Failure(name, line.row, seeds, detail))
    return failures


def _first_seeds(summary: Summary, shown: Sequence[GalleryPicture]) -> list[tuple[str, list[GalleryPicture]]]:
    """By defense (and threat); of every row the first seed. The other seeds lie in the folder of figures."""

    def title(one: GalleryPicture) -> str:
        return f"{one.row.defense} under {one.row.threat}" if len(summary.threats) > 1 else one.row.defense

    firsts = [one for one in shown if one.entry is one.row.entries[0]]
    return [(name, list(group)) for name, group in groupby(firsts, key=title)]
