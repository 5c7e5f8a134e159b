"""Outcomes over seeds: rows, the undefended score beside each, and per defense the worst attack that is valid.

Normalised leakage: (score - anchor) / (undefended score - anchor), clipped to [0, 1], with the anchor to beat.
"""

from collections.abc import Sequence
from dataclasses import replace

from fedsplit.errors import DataError
from fedsplit.records.exhibit import Exhibit
from fedsplit.records.outcome import Outcomes
from fedsplit.report.estimate import estimate, spread
from fedsplit.report.rows import Anchor, Entry, Reading, Row, Summary
from fedsplit.report.sweep import sweeps


def summarise(outcomes: Outcomes, exhibits: Sequence[Exhibit], scenario: str = "") -> Summary:
    """exhibits: one per outcome, in the same order. scenario: as it was run (YAML), for what its rows have in common.

    Raises DataError where there is nothing to show.
    """
    if not outcomes.outcomes:
        raise DataError("the run has no outcomes", at=outcomes.scenario, remedy="list at least one attack")
    groups: dict[tuple[str, str, str, str, int], list[Entry]] = {}
    for outcome, exhibit in zip(outcomes.outcomes, exhibits, strict=True):
        key = (outcome.defense, outcome.threat, outcome.attack, outcome.leak, outcome.round)
        groups.setdefault(key, []).append(Entry(outcome, exhibit))
    by_seed = [sorted(entries, key=lambda entry: entry.outcome.seed) for entries in groups.values()]
    ordinary = {entries[0].outcome.defense: entries for entries in by_seed if not entries[0].outcome.hijacked}
    rows = [_row(entries, ordinary.get(entries[0].outcome.defense, ())) for entries in by_seed]
    undefended = {row.setting: row for row in rows if row.undefended}
    rows = [_compared(row, undefended.get(row.setting)) for row in rows]
    return Summary(
        scenario=outcomes.scenario,
        data=outcomes.data,
        headline=outcomes.outcomes[0].headline,
        rows=_ordered(_ranked(rows)),
        versions=tuple(sorted(outcomes.versions.items())),
        sweeps=sweeps(scenario),
    )


def _row(entries: Sequence[Entry], others: Sequence[Entry]) -> Row:
    """others: of a passive attack on the same defense."""
    first = entries[0].outcome
    ordinary = others if first.hijacked else entries
    metrics = dict.fromkeys(metric for entry in entries for metric in entry.outcome.scores)
    return Row(
        defense=first.defense,
        threat=first.threat,
        attack=first.attack,
        leak=first.leak,
        round=first.round,
        headline=first.headline,
        entries=tuple(entries),
        ordinary=tuple(ordinary),
        utility=spread([entry.outcome.utility.accuracy for entry in ordinary]),
        readings=tuple(_reading(metric, entries) for metric in metrics),
        reasons=_reasons(entries),
    )


def _reasons(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Each reason once, with the seeds it holds for unless it holds for all."""
    seeds: dict[str, list[int]] = {}
    for entry in entries:
        if not entry.outcome.valid:
            seeds.setdefault(entry.outcome.reason, []).append(entry.outcome.seed)
    return tuple(
        reason if len(found) == len(entries) else f"seed {', '.join(map(str, found))}: {reason}"
        for reason, found in seeds.items()
    )


def _reading(metric: str, entries: Sequence[Entry]) -> Reading:
    scored = [entry for entry in entries if metric in entry.outcome.scores]
    first = scored[0].outcome
    stream = (first.defense, first.threat, first.attack, first.leak, str(first.round), metric)
    values = [dict(entry.exhibit.values).get(metric) for entry in scored]
    classes = [entry.exhibit.labels for entry in scored] if first.level == "class" else None
    names = dict.fromkeys(name for entry in scored for name in entry.outcome.anchors)
    return Reading(
        metric=metric,
        estimate=estimate([entry.outcome.scores[metric] for entry in scored], values, stream, classes),
        anchors=tuple(
            Anchor(name, spread([entry.outcome.anchors.get(name, {}).get(metric) for entry in scored]).mean)
            for name in names
        ),
    )


def _compared(row: Row, undefended: Row | None) -> Row:
    """The row beside the undefended one under the same attack."""
    if undefended is None:
        return row
    readings = tuple(_normalised(reading, undefended.reading(reading.metric)) for reading in row.readings)
    if undefended.valid or not row.valid or row.undefended:
        return replace(row, readings=readings)
    # An attack that was not shown to work says nothing about a defense, however low it scores.
    unproven = f"without a defense this attack is not valid either ({'; '.join(undefended.reasons)})"
    return replace(row, readings=readings, reasons=(*row.reasons, unproven))


def _normalised(reading: Reading, undefended: Reading | None) -> Reading:
    score, trivial = reading.estimate.mean, reading.trivial
    full = undefended.estimate.mean if undefended else None
    if score is None or trivial is None or full is None:
        return replace(reading, undefended=full)
    sign = reading.estimate.sign
    gained = sign * (full - trivial)
    leaked = min(max(sign * (score - trivial) / gained, 0.0), 1.0) if gained > 0 else None
    return replace(reading, undefended=full, leaked=leaked)


def _ranked(rows: Sequence[Row]) -> list[Row]:
    """The same rows; per defense and threat the worst valid one is marked."""
    contests: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for index, row in enumerate(rows):
        if row.valid and row.harm is not None:
            contests.setdefault((row.threat, row.defense), []).append((row.harm, index))
    marked = list(rows)
    for contest in contests.values():
        _, worst = max(contest, key=lambda candidate: candidate[0])
        attacks = {rows[index].attack for _, index in contest}
        marked[worst] = replace(rows[worst], worst_of=len(attacks))
    return marked


def _ordered(rows: Sequence[Row]) -> tuple[Row, ...]:
    """By threat; the undefended rows first, then the defenses from most to least leaking, those without a rank last.

    Within a defense, from the worst attack to the weakest, and then the invalid ones.
    """
    threats = list(dict.fromkeys(row.threat for row in rows))
    harm = {(row.threat, row.defense): row.harm for row in rows if row.worst_of}

    def place(row: Row) -> tuple[int, bool, float, str, bool, float]:
        rank = _descending(harm.get((row.threat, row.defense)))
        own = _descending(row.harm)
        return (threats.index(row.threat), not row.undefended, rank, row.defense, not row.valid, own)

    return tuple(sorted(rows, key=place))


def _descending(harm: float | None) -> float:
    return float("inf") if harm is None else -harm
