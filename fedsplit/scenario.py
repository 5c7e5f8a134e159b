"""A frozen, typed scenario: all that a run depends on; its cells and its duels."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import Field, NonNegativeInt

from fedsplit.attacks.base import ATTACKS, ActiveAttack, AnyAttack, Attack, hijacked
from fedsplit.bounds.base import AnyBound
from fedsplit.component import Settings
from fedsplit.datasets.base import AnyDataset, Dataset
from fedsplit.defenses.base import AnyDefense, Defense
from fedsplit.engines.base import AnyEngine
from fedsplit.federation.hijacking import Hijacking
from fedsplit.federation.ledger import Recording
from fedsplit.federation.optimizer import Optimizer
from fedsplit.federation.plan import DTYPES, Plan, Precision
from fedsplit.metrics.base import AnyMetric, Metric
from fedsplit.models.base import AnyModel
from fedsplit.partition import Partition, Roles
from fedsplit.protocols.base import AnyProtocol
from fedsplit.public import PublicImages
from fedsplit.records.images import Shape
from fedsplit.records.leak import Asset, LeakKind, Level
from fedsplit.threats.base import AnyThreat, Threat

UNDEFENDED = "none"
"""The name of the row without defense; every scenario has one."""

_LONGEST_FOLDER = 80
_INFERENCE_ALONE = frozenset({Asset.REPEATS})
"""What there is of one pass over the targets only."""
_TRAINING_ALONE = frozenset({Asset.CUT_GRADIENTS, Asset.LABELS, Asset.HEAD_GRADIENTS})
"""What crosses the cut at training steps only."""


class Targets(Settings):
    """Which images the attacks try to rebuild."""

    source: Literal["private", "test"] = Field(default="private", alias="from")
    """private: rows that the clients train on. test: rows that pass through the deployed model only."""
    count: Annotated[int, Field(ge=2)] | Literal["all"] = 400
    """How many, drawn at random; fewer rows than this are taken as they are. With one nothing could tell a guess that
    hangs on the leak from one that does not."""


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
    public: PublicImages = PublicImages()
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
    bounds: tuple[AnyBound, ...] = ()
    """What is said of all attacks at once, beside their scores."""
    headline: str = "ssim"
    """The metric that ranks attacks within a row, and by which outcomes are judged valid."""
    class_headline: str = "attack_accuracy_top1"
    """The same for attacks on classes."""
    engine: AnyEngine

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of images and parameters."""
        return DTYPES[self.precision]

    @property
    def datasets(self) -> tuple[Dataset, ...]:
        """The attacked one, then the others."""
        return (self.dataset, *self.others)

    @property
    def others(self) -> tuple[Dataset, ...]:
        """The data sets that are public, or of which some adversary learns, instead of the attacked one."""
        own = (self.public.dataset, *(threat.auxiliary.dataset for threat in self.threats))
        return tuple(dict.fromkeys(dataset for dataset in own if dataset is not None))

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
        """Every victim training, seed by seed, the undefended row first; of each row the ordinary one, unless there is
        nothing but active attacks, and one per active attack."""
        active = tuple(self._active)
        trainings = active if len(active) == len(self.attacks) else (None, *active)
        return (Cell(*row, seed, attack) for seed in self.seeds for row in self.rows for attack in trainings)

    def duels_of(self, cell: "Cell") -> tuple["Duel", ...]:
        """Those about the victim of this training."""
        return tuple(duel for duel in self.duels if duel.hijacks == cell.hijacker)

    def recording(self, cell: "Cell") -> Recording:
        """What the ledger has to keep for the attacks on this training."""
        attacks = [attack for name, attack in _named(self.attacks) if _hijacks(name, attack) == cell.hijacker]
        kept = {
            kind: sorted({number for attack in attacks if attack.leak == kind for number in self.rounds(attack)})
            for kind in ("training", "inference")
        }
        return Recording(training=tuple(kept["training"]), inference=tuple(kept["inference"]))

    def metrics_of(self, level: Level) -> tuple[Metric, ...]:
        """Those that score guesses at images, or at classes."""
        return tuple(metric for metric in self.metrics if level in metric.levels)

    def headline_of(self, level: Level) -> Metric:
        """The metric that ranks attacks of this level."""
        name = self.headline if level == "instance" else self.class_headline
        return next(metric for metric in self.metrics_of(level) if metric.name == name)

    @property
    def withheld(self) -> frozenset[Asset]:
        """What no adversary on the server's side holds here, whatever its threat grants it."""
        return self.protocol.withheld | {Asset.HEAD_GRADIENTS if self.head is None else Asset.LABELS}

    def offered(self, threat: Threat, attack: Attack) -> frozenset[Asset]:
        """The assets of this adversary that are in the leak which the attack looks at."""
        if threat.behind_the_cut is not None and attack.leak == "training":
            return frozenset()
        held = threat.assets_without(self.withheld)
        return held - (_INFERENCE_ALONE if _leak(threat, attack) == "training" else _TRAINING_ALONE)

    def feeds(self, threat: Threat, attack: Attack) -> bool:
        """Whether this adversary has what the attack needs, from the leak that the attack looks at, and dares it."""
        dares = threat.active or not isinstance(attack, ActiveAttack)
        return dares and attack.needs <= self.offered(threat, attack)

    def rounds(self, attack: Attack) -> tuple[int, ...]:
        """The rounds that an attack looks at; the last one unless it says otherwise."""
        return attack.rounds or (self.protocol.rounds,)

    def hijacker(self, cell: "Cell") -> ActiveAttack | None:
        """The attack that has the server of this training."""
        return None if cell.hijacker is None else self._active[cell.hijacker]

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
            hijacking=self.hijacking(cell),
        )

    def hijacking(self, cell: "Cell") -> Hijacking | None:
        """What the plan of a cell says about its hijacker."""
        attack = self.hijacker(cell)
        if cell.hijacker is None or attack is None:
            return None
        function = f"{hijacked.__module__}:{hijacked.__name__}"
        return Hijacking(name=cell.hijacker, function=function, settings=json.dumps(ATTACKS.dump(attack)))

    @property
    def _active(self) -> dict[str, ActiveAttack]:
        return {name: attack for name, attack in _named(self.attacks) if isinstance(attack, ActiveAttack)}

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

    @property
    def leak(self) -> LeakKind:
        """What is attacked: what the threat sees behind the cut, or else what the attack chose at it."""
        return _leak(self.threat, self.attack)

    @property
    def hijacks(self) -> str | None:
        """Who has the server of the training that this duel is about; None for the ordinary one."""
        return _hijacks(self.attack_name, self.attack)


@dataclass(frozen=True)
class Cell:
    """One victim training: one defense, one seed. hijacker: the active attack that has its server; None for the
    ordinary training, which all passive attacks share."""

    row: str
    defense: Defense
    seed: int
    hijacker: str | None = None

    @property
    def folder(self) -> str:
        """A folder name, the only one with a plus if an attack has the server."""
        hijacked = "" if self.hijacker is None else f"+{plain(self.hijacker)}"
        return f"{plain(self.row, ' ')}-seed-{self.seed}{hijacked}"

    def __str__(self) -> str:
        return f"{self.row}, seed {self.seed}" + ("" if self.hijacker is None else f", hijacked by {self.hijacker}")


def plain(name: str, underscore: str = "_") -> str:
    """A name as a part of a path; those that are spelt alike but for punctuation are kept apart by a mark.

    underscore: what one stands for where there is no mark."""
    spelt = re.sub(r"[^A-Za-z0-9.=-]+", "_", name)[:_LONGEST_FOLDER]
    told = spelt.replace("_", underscore) == name
    return spelt if told else f"{spelt}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _leak(threat: Threat, attack: Attack) -> LeakKind:
    return threat.behind_the_cut or attack.leak


def _hijacks(name: str, attack: Attack) -> str | None:
    return name if isinstance(attack, ActiveAttack) else None


Named = TypeVar("Named", Threat, Attack)


def _named(components: Sequence[Named]) -> tuple[tuple[str, Named], ...]:
    """Components by title; a second one of the same title gets a number."""
    kinds = [component.title for component in components]
    earlier = (kinds[:index].count(kind) for index, kind in enumerate(kinds))
    names = (f"{kind}-{count + 1}" if count else kind for kind, count in zip(kinds, earlier, strict=True))
    return tuple(zip(names, components, strict=True))
