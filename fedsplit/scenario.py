"""A frozen, typed scenario: all that a run depends on; its cells and its duels."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import Field, NonNegativeInt, PositiveInt

from fedsplit.attacks.base import AnyAttack, Attack
from fedsplit.component import Settings
from fedsplit.datasets.base import AnyDataset
from fedsplit.defenses.base import AnyDefense, Defense
from fedsplit.engines.base import AnyEngine
from fedsplit.federation.ledger import Recording
from fedsplit.federation.optimizer import Optimizer
from fedsplit.federation.plan import DTYPES, Plan, Precision
from fedsplit.metrics.base import AnyMetric
from fedsplit.models.base import AnyModel
from fedsplit.partition import Partition, Roles
from fedsplit.protocols.base import AnyProtocol
from fedsplit.records.images import Shape
from fedsplit.records.leak import Asset
from fedsplit.threats.base import AnyThreat, Threat

UNDEFENDED = "none"
"""The name of the row without defense; every scenario has one."""

_LONGEST_FOLDER = 80
_TRAINING_ALONE = frozenset({Asset.CUT_GRADIENTS, Asset.LABELS, Asset.HEAD_GRADIENTS})
"""What crosses the cut at training steps only."""


class Targets(Settings):
    """Which images the attacks try to rebuild."""

    source: Literal["private", "test"] = Field(default="private", alias="from")
    """private: rows that the clients train on. test: rows that pass through the deployed model only."""
    count: PositiveInt | Literal["all"] = 400
    """How many, drawn at random; fewer rows than this are taken as they are."""


class Scenario(Settings):
    """Everything that a run depends on. Every key has a sensible default but name, dataset, model and cut."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.+-]*$", max_length=80)]
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0,)
    """One victim training each."""
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """Threads of torch per worker; results depend on it."""
    precision: Precision = "float32"
    """Of what is computed; bfloat16 means the forward and backward passes of training steps alone, by autocast."""
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"
    """Where segments are trained (inline engine) and attacks run."""
    dataset: AnyDataset
    roles: Roles = Roles()
    partition: Partition
    model: AnyModel
    cut: str
    """The last block of the client segment."""
    head: str | None = None
    """The first block that stays at the client with the labels (U-shaped); None where the server ends the model."""
    protocol: AnyProtocol
    optimizer: Optimizer
    defenses: Mapping[str, AnyDefense]
    """The rows of the table by name."""
    threats: Annotated[tuple[AnyThreat, ...], Field(min_length=1)]
    attacks: Annotated[tuple[AnyAttack, ...], Field(min_length=1)]
    targets: Targets = Targets()
    metrics: Annotated[tuple[AnyMetric, ...], Field(min_length=1)]
    headline: str = "ssim"
    """The metric that ranks attacks within a row, and by which outcomes are judged valid."""
    engine: AnyEngine

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of images and parameters."""
        return DTYPES[self.precision]

    @property
    def rows(self) -> tuple[tuple[str, Defense], ...]:
        """(name, defense), the undefended one first: the others are judged by its outcomes too."""
        return tuple(sorted(self.defenses.items(), key=lambda row: row[0] != UNDEFENDED))

    @property
    def duels(self) -> tuple["Duel", ...]:
        """Every attack under every threat that grants what it needs, in every round that it looks at."""
        return tuple(
            Duel(threat_name, threat, attack_name, attack, number)
            for threat_name, threat in _named(self.threats)
            for attack_name, attack in _named(self.attacks)
            if self.feeds(threat, attack)
            for number in self.rounds(attack)
        )

    @property
    def cells(self) -> Iterator["Cell"]:
        """Every victim training, seed by seed, the undefended row first."""
        return (Cell(name, defense, seed) for seed in self.seeds for name, defense in self.rows)

    @property
    def recording(self) -> Recording:
        """What the ledger has to keep for the attacks."""
        kept = {
            kind: sorted({number for attack in self.attacks if attack.leak == kind for number in self.rounds(attack)})
            for kind in ("training", "inference")
        }
        return Recording(training=tuple(kept["training"]), inference=tuple(kept["inference"]))

    @property
    def withheld(self) -> frozenset[Asset]:
        """What no adversary on the server's side holds here, whatever its threat grants it."""
        return self.protocol.withheld | {Asset.HEAD_GRADIENTS if self.head is None else Asset.LABELS}

    def offered(self, threat: Threat, attack: Attack) -> frozenset[Asset]:
        """The assets of this adversary that are in the leak which the attack looks at."""
        held = threat.assets_without(self.withheld)
        return held - _TRAINING_ALONE if attack.leak == "inference" else held

    def feeds(self, threat: Threat, attack: Attack) -> bool:
        """Whether this adversary has what the attack needs, from the leak that the attack looks at."""
        return attack.needs <= self.offered(threat, attack)

    def rounds(self, attack: Attack) -> tuple[int, ...]:
        """The rounds that an attack looks at; the last one unless it says otherwise."""
        return attack.rounds or (self.protocol.rounds,)

    def plan(self, cell: "Cell", shape: Shape, classes: int) -> Plan:
        """What the parties of one cell agree on."""
        return Plan(
            model=self.model,
            cut=self.cut,
            head=self.head,
            defense=cell.defense,
            optimizer=self.optimizer,
            shape=shape,
            classes=classes,
            seed=cell.seed,
            threads=self.threads,
            precision=self.precision,
            device=self.device,
        )

    def only(self, cell: "Cell") -> "Scenario":
        """The same scenario with one cell."""
        return self.model_copy(update={"seeds": (cell.seed,), "defenses": {cell.row: cell.defense}})

    def dump(self) -> dict[str, Any]:
        """The resolved scenario as plain values, from which the same scenario can be read."""
        return json.loads(self.model_dump_json())


@dataclass(frozen=True)
class Duel:
    """One attack under one threat on the leak of one round."""

    threat_name: str
    threat: Threat
    attack_name: str
    attack: Attack
    round: int


@dataclass(frozen=True)
class Cell:
    """One victim training: one defense, one seed."""

    row: str
    defense: Defense
    seed: int

    @property
    def folder(self) -> str:
        """A folder name; rows that are spelt alike but for punctuation are kept apart by a mark."""
        name = plain(self.row)
        told = name.replace("_", " ") == self.row
        mark = "" if told else f"-{hashlib.sha256(self.row.encode()).hexdigest()[:8]}"
        return f"{name}{mark}-seed-{self.seed}"


def plain(name: str) -> str:
    """A name as a part of a path; different ones may become the same."""
    return re.sub(r"[^A-Za-z0-9.=-]+", "_", name)[:_LONGEST_FOLDER]


Named = TypeVar("Named", Threat, Attack)


def _named(components: Sequence[Named]) -> tuple[tuple[str, Named], ...]:
    """Components by kind; a second one of the same kind gets a number."""
    kinds = [component.kind for component in components]
    earlier = (kinds[:index].count(kind) for index, kind in enumerate(kinds))
    names = (f"{kind}-{count + 1}" if count else kind for kind, count in zip(kinds, earlier, strict=True))
    return tuple(zip(names, components, strict=True))
