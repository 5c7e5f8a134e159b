"""What tables, figures and the page show: one row per defense, threat, attack, leak and round, over all seeds."""

from dataclasses import dataclass, replace
from typing import Literal

from fedsplit.records.exhibit import Exhibit
from fedsplit.records.leak import LeakKind
from fedsplit.records.outcome import DataNote, Outcome
from fedsplit.report.estimate import Estimate, Spread, spread
from fedsplit.report.sweep import Sweep

UNDEFENDED = "none"
"""The name of the row that every run has."""

MEAN_IMAGE = "mean_image"
"""The anchor to beat."""

UNGUIDED = "unguided"
"""The anchor to beat where it was measured: what the same attacker would have guessed without a leak."""


Loss = Literal["classification", "inversion"]
"""Of which it may be known how much it hangs on each block."""


@dataclass(frozen=True)
class Entry:
    """One outcome beside what its pictures are made of."""

    outcome: Outcome
    exhibit: Exhibit


@dataclass(frozen=True)
class Anchor:
    """The score of a trivial guess, averaged over seeds; None where it has no finite mean."""

    name: str
    score: float | None


@dataclass(frozen=True)
class Reading:
    """One metric in one row. undefended: the score of the same attack on the undefended row.

    leaked: the normalised leakage, or None where the undefended attack does not beat the anchor to beat.
    """

    metric: str
    estimate: Estimate
    anchors: tuple[Anchor, ...]
    undefended: float | None = None
    leaked: float | None = None

    def anchor(self, name: str) -> float | None:
        """The score of this anchor, None where it was not measured."""
        return next((anchor.score for anchor in self.anchors if anchor.name == name), None)

    @property
    def to_beat(self) -> str:
        """The name of the anchor that a guess must beat to say anything about the leak."""
        return UNGUIDED if any(anchor.name == UNGUIDED for anchor in self.anchors) else MEAN_IMAGE

    @property
    def trivial(self) -> float | None:
        """Its score, None where it has none."""
        return self.anchor(self.to_beat)


@dataclass(frozen=True)
class Bounded:
    """What one bound says of one row: its number, a mean over seeds, as the metric has it; None, and why, where it does
    not hold for every seed."""

    name: str
    metric: str
    direction: Literal["at least", "at most"]
    about: str
    value: float | None
    reason: str


@dataclass(frozen=True)
class Row:
    """One attack on one defense, over all seeds. reasons: why it is invalid; a valid row has none.

    worst_of: on the worst valid attack of a defense under one threat, the number of attacks it was chosen from; else 0.
    ordinary: what tells of the training that the defense is judged by: the row's own entries, or, where the attack had
    the server, those of any passive attack on the same defense; none where there is none. utility: of that training.
    """

    defense: str
    threat: str
    attack: str
    leak: LeakKind
    round: int
    headline: str
    entries: tuple[Entry, ...]
    ordinary: tuple[Entry, ...]
    utility: Spread
    readings: tuple[Reading, ...]
    reasons: tuple[str, ...]
    worst_of: int = 0

    @property
    def valid(self) -> bool:
        """Whether the row may be ranked."""
        return not self.reasons

    @property
    def of_classes(self) -> bool:
        """Whether the attack rebuilt classes, and not the targets one by one."""
        return self.entries[0].outcome.level == "class"

    @property
    def undefended(self) -> bool:
        """Whether this is the row without any defense."""
        return self.defense == UNDEFENDED

    @property
    def setting(self) -> tuple[str, str, str, int]:
        """What the undefended row must share to be compared with this one."""
        return (self.threat, self.attack, self.leak, self.round)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The victim trainings behind the row."""
        return tuple(entry.outcome.seed for entry in self.entries)

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks of the client segment, in order; none where their activity was not measured."""
        return tuple(self.ordinary[0].outcome.activity) if self.ordinary else ()

    def active(self, block: str) -> Spread:
        """The share of a client block's values that is not zero, over the seeds."""
        return spread([entry.outcome.activity[block].share for entry in self.ordinary])

    def active_per_pixel(self, block: str) -> Spread:
        """Active values of a client block per value of the image, over the seeds."""
        return spread([entry.outcome.activity[block].per_pixel for entry in self.ordinary])

    @property
    def informed(self) -> tuple[str, ...]:
        """The blocks of the model, in order, of which it was measured how much losses hang on them."""
        return tuple(self.ordinary[0].outcome.information) if self.ordinary else ()

    def frozen(self, block: str) -> bool:
        """Whether a block never moved in training."""
        return self.ordinary[0].outcome.information[block].frozen

    def information(self, block: str, loss: Loss) -> Spread:
        """A block's share of what this loss hangs on, over the seeds in which it was measured."""
        told = [entry.outcome.information[block] for entry in self.ordinary if entry.outcome.information]
        return spread([one.classification if loss == "classification" else one.inversion for one in told])

    def reading(self, metric: str) -> Reading | None:
        """The reading of one metric, None where the attack has none."""
        return next((reading for reading in self.readings if reading.metric == metric), None)

    @property
    def bounds(self) -> tuple[Bounded, ...]:
        """What was said of all attacks on this leak at once."""
        return tuple(self._bounded(name) for name in self.entries[0].outcome.limits)

    def _bounded(self, name: str) -> Bounded:
        limits = [entry.outcome.limits[name] for entry in self.entries]
        reason = next((limit.reason for limit in limits if limit.value is None), "")
        value = spread([limit.value for limit in limits]).mean
        return Bounded(name, limits[0].metric, limits[0].direction, limits[0].about, value, reason)

    @property
    def training(self) -> Spread:
        """Wall seconds of a victim training, over the seeds."""
        return spread([entry.outcome.training_seconds for entry in self.ordinary])

    @property
    def privacy(self) -> tuple[str, ...]:
        """What is proven of the weights, or why nothing is: once for all seeds for which it is the same."""
        return tuple(dict.fromkeys(words for entry in self.entries if (words := entry.outcome.privacy)))

    @property
    def hijacked(self) -> Spread | None:
        """Accuracy after the training of which the attack had the server; None for a passive attack."""
        if not self.entries[0].outcome.hijacked:
            return None
        return spread([entry.outcome.utility.accuracy for entry in self.entries])

    @property
    def harm(self) -> float | None:
        """The headline score, turned so that more is worse; None where there is none."""
        reading = self.reading(self.headline)
        return reading.estimate.harm if reading else None


@dataclass(frozen=True)
class Summary:
    """What the tables, figures and the page show. rows: the undefended ones first, then from most to least leaking."""

    scenario: str
    data: DataNote
    headline: str
    rows: tuple[Row, ...]
    versions: tuple[tuple[str, str], ...]
    sweeps: tuple[Sweep, ...] = ()
    """Rows that differ in one number, where the scenario is known."""

    @property
    def threats(self) -> tuple[str, ...]:
        """The threats in the order of the rows."""
        return tuple(dict.fromkeys(row.threat for row in self.rows))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The headline metrics, then the others in the order they were measured."""
        measured = (reading.metric for row in self.rows for reading in row.readings)
        return tuple(dict.fromkeys((*self.headlines, *measured)))

    @property
    def headlines(self) -> tuple[str, ...]:
        """Guesses at classes have another headline than guesses at images."""
        return tuple(dict.fromkeys((self.headline, *(row.headline for row in self.rows))))

    def alone(self, threat: str) -> "Summary":
        """The same with one threat, under which all attacks have the same headline."""
        rows = self.under(threat)
        return replace(self, rows=rows, headline=rows[0].headline)

    def under(self, threat: str) -> tuple[Row, ...]:
        """The rows of one threat."""
        return tuple(row for row in self.rows if row.threat == threat)

    def defenses(self, threat: str) -> tuple[str, ...]:
        """The defenses under one threat, in the order of the rows."""
        return tuple(dict.fromkeys(row.defense for row in self.under(threat)))

    def worst(self, threat: str, defense: str) -> Row | None:
        """The worst valid attack on a defense, None where no attack is valid."""
        return next((row for row in self.under(threat) if row.defense == defense and row.worst_of), None)
