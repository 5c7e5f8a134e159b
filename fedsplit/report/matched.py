"""What each defense leaves of the leak where all are allowed to cost the same: at fixed drops of accuracy.

Between the strengths of one defense the leak is interpolated along its frontier: the strengths that no other one beats
in both leak and accuracy, so that paying more never leaks more. Nothing is extrapolated.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fedsplit.report import wording
from fedsplit.report.estimate import Estimate, spread
from fedsplit.report.grid import Measured
from fedsplit.report.ranked import Ranked, curves, ranked
from fedsplit.report.rows import UNDEFENDED, Row, Summary

DROPS = (0.5, 1.0, 2.0, 5.0, 10.0)
"""In points of accuracy, below the undefended row."""


@dataclass(frozen=True)
class Strength:
    """One row. value: of the swept setting, empty without a sweep.

    drop: points of accuracy below the undefended training of the same seed, the mean over seeds. deviation: between
    these, None for a single seed.
    """

    value: str
    drop: float
    deviation: float | None
    found: Estimate


@dataclass(frozen=True)
class Matched:
    """One defense with its strengths, by ascending value. setting: the swept one, empty without a sweep."""

    name: str
    setting: str
    strengths: tuple[Strength, ...]

    def leak(self, drop: float) -> Estimate | None:
        """The worst attack's headline where so many points are paid, None where every strength costs more.

        Both ends of the interval are interpolated as the mean is. Who allows more than the frontier's last strength
        costs is left with that one.
        """
        frontier = self._frontier()
        above = bisect_right([strength.drop for strength in frontier], drop)
        if above == 0:
            return None
        low = frontier[above - 1]
        if above == len(frontier):
            return low.found
        high = frontier[above]
        return _between(low.found, high.found, (drop - low.drop) / (high.drop - low.drop))

    def _frontier(self) -> list[Strength]:
        kept: list[Strength] = []
        for strength in sorted(self.strengths, key=lambda one: (one.drop, _harm(one))):
            if not kept or _harm(strength) < _harm(kept[-1]):
                kept.append(strength)
        return kept


@dataclass(frozen=True)
class MatchedLine:
    """One defense as it is printed: what each strength costs, and the score at each of DROPS."""

    name: str
    cost: str
    leaks: tuple[Measured, ...]


def matched(summary: Summary, threat: str) -> tuple[Matched, ...]:
    """One per sweep and per row outside of all sweeps: the undefended one, which costs nothing, then from what leaks
    most where most is paid to what leaks least.

    Nothing where no setting has two strengths with a valid attack, or where no undefended row tells the accuracy that
    there was to lose.
    """
    rows = ranked(summary, threat)
    swept = curves(summary, rows)
    whole = _accuracies(next((row for row in summary.under(threat) if row.undefended), None))
    if not swept or not whole:
        return ()
    taken = {one.row.defense for curve in swept for _, one in curve.points}
    alone = [_matched(whole, one.row.defense, "", [(None, one)]) for one in rows if one.row.defense not in taken]
    found = [*(_matched(whole, curve.name, curve.setting, curve.points) for curve in swept), *alone]
    compared = [one for one in found if one.strengths]
    return tuple(sorted(compared, key=lambda one: (one.name == UNDEFENDED, *_harms(one)), reverse=True))


def matched_lines(summary: Summary, threat: str) -> tuple[MatchedLine, ...]:
    """`matched` in words, with as many digits as its column needs; at last the anchor to beat, whatever is paid."""
    found = matched(summary, threat)
    if not found:
        return ()
    digits = wording.decimals(strength.found for one in found for strength in one.strengths)
    lines = [
        MatchedLine(one.name, _cost(one), tuple(_measured(one.leak(drop), digits) for drop in DROPS)) for one in found
    ]
    undefended = next(row for row in summary.under(threat) if row.undefended)
    if (reading := undefended.reading(summary.headline)) is not None and reading.trivial is not None:
        trivial = Measured(wording.number(reading.trivial, digits))
        lines.append(MatchedLine(wording.anchor_label(reading.to_beat), "", (trivial,) * len(DROPS)))
    return tuple(lines)


def _matched(
    whole: Mapping[int, float], name: str, setting: str, points: Sequence[tuple[float | None, Ranked]]
) -> Matched:
    strengths: list[Strength] = []
    for value, one in points:
        own = _accuracies(one.row)
        drop = spread([100 * (whole[seed] - own[seed]) for seed in own if seed in whole])
        if drop.mean is not None:
            told = "" if value is None else f"{value:g}"
            # Accuracies are counts, so a whole point is common, and a last bit must not put it above itself.
            strengths.append(Strength(told, round(drop.mean, 9), drop.deviation, one.found))
    return Matched(name, setting, tuple(strengths))


def _accuracies(row: Row | None) -> dict[int, float]:
    """By seed, of trainings that no attack had a hand in."""
    return {entry.outcome.seed: entry.outcome.utility.accuracy for entry in row.ordinary} if row else {}


def _between(low: Estimate, high: Estimate, share: float) -> Estimate:
    def mixed(first: float | None, second: float | None) -> float | None:
        return None if first is None or second is None else (1 - share) * first + share * second

    return replace(low, mean=mixed(low.mean, high.mean), low=mixed(low.low, high.low), high=mixed(low.high, high.high))


def _harm(strength: Strength) -> float:
    harm = strength.found.harm
    assert harm is not None, "ranked rows have a finite headline"
    return harm


def _harms(one: Matched) -> tuple[float, ...]:
    """Its leak at each drop, the largest first; what costs more than a drop allows comes last."""
    leaks = [one.leak(drop) for drop in reversed(DROPS)]
    return tuple(float("-inf") if found is None or found.harm is None else found.harm for found in leaks)


def _cost(one: Matched) -> str:
    if one.name == UNDEFENDED:
        return ""
    drops = [(strength.value, wording.deviating(strength.drop, strength.deviation)) for strength in one.strengths]
    return ", ".join(f"{drop} at {one.setting} {value}" if value else drop for value, drop in drops)


def _measured(found: Estimate | None, digits: int) -> Measured:
    if found is None:
        return Measured(wording.ABSENT)
    return Measured(wording.number(found.mean, digits), wording.bounds(found, digits))
