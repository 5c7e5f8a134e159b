"""One YAML file -> a frozen, typed scenario; its cross-checks; its cells."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError

from fedsplit import document
from fedsplit.attacks.base import AnyAttack, Attack
from fedsplit.component import Settings, Trust
from fedsplit.datasets.base import AnyDataset
from fedsplit.defenses.base import AnyDefense, Defense
from fedsplit.engines.base import AnyEngine
from fedsplit.errors import ScenarioError
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

_MOST_ROWS = 1000
_MOST_ERRORS = 3
_LONGEST_FOLDER = 80
_TRAINING_ALONE = frozenset({Asset.CUT_GRADIENTS, Asset.LABELS})
"""What crosses the cut at training steps only."""

_REMEDIES = {
    "extra_forbidden": "remove it or mend its spelling; `fedsplit list FAMILY --json` prints the keys of every kind",
    "missing": "add this key",
    "no_kind": "write it as `{kind: ..., ...}`",
    "union_tag_not_found": "write it as `{kind: ..., ...}`",
    "unknown_kind": "`fedsplit list` prints all kinds",
}


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
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"
    """Where segments are trained (inline engine) and attacks run."""
    dataset: AnyDataset
    roles: Roles = Roles()
    partition: Partition
    model: AnyModel
    cut: str
    """The last block of the client segment."""
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
            if feeds(threat, attack)
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

    def rounds(self, attack: Attack) -> tuple[int, ...]:
        """The rounds that an attack looks at; the last one unless it says otherwise."""
        return attack.rounds or (self.protocol.rounds,)

    def plan(self, cell: "Cell", shape: Shape, classes: int) -> Plan:
        """What the parties of one cell agree on."""
        return Plan(
            model=self.model,
            cut=self.cut,
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
        plain = re.sub(r"[^A-Za-z0-9.=-]+", "_", self.row)[:_LONGEST_FOLDER]
        told = plain.replace("_", " ") == self.row
        mark = "" if told else f"-{hashlib.sha256(self.row.encode()).hexdigest()[:8]}"
        return f"{plain}{mark}-seed-{self.seed}"


def load(path: Path, *, assignments: Sequence[str] = (), trust: Trust | None = None, smoke: bool = False) -> Scenario:
    """Reads, edits, validates. Raises ScenarioError (or PluginError) in one line, before any compute."""
    raw = _filled(document.read(path))
    for assignment in assignments:
        document.assign(raw, assignment)
    return parse(_smoked(raw) if smoke else raw, trust or Trust())


def parse(raw: Mapping[str, document.Plain], trust: Trust) -> Scenario:
    """Plain values -> a scenario that has passed its cross-checks. `raw` is not changed."""
    filled = _filled(raw)
    filled["defenses"] = _rows(filled["defenses"])
    try:
        scenario = Scenario.model_validate_json(json.dumps(filled), context=trust)
    except ValidationError as error:
        raise _explained(error, filled) from error
    except OSError as error:  # a setting that names a file, of a name that no file can have
        remedy = "name a file that is there"
        raise ScenarioError(f"cannot be looked at ({error.strerror})", value=error.filename, remedy=remedy) from error
    for check in (_check_seeds, _check_metrics, _check_attacks, _check_engine, _check_device):
        check(scenario)
    return scenario


Named = TypeVar("Named", Threat, Attack)


def _named(components: Sequence[Named]) -> tuple[tuple[str, Named], ...]:
    """Components by kind; a second one of the same kind gets a number."""
    kinds = [component.kind for component in components]
    earlier = (kinds[:index].count(kind) for index, kind in enumerate(kinds))
    names = (f"{kind}-{count + 1}" if count else kind for kind, count in zip(kinds, earlier, strict=True))
    return tuple(zip(names, components, strict=True))


def feeds(threat: Threat, attack: Attack) -> bool:
    """Whether this adversary has what the attack needs, from the leak that the attack looks at."""
    return attack.needs <= _offered(threat, attack)


def _offered(threat: Threat, attack: Attack) -> frozenset[Asset]:
    return threat.assets - _TRAINING_ALONE if attack.leak == "inference" else threat.assets


def check_cuts(scenario: Scenario, shape: Shape, classes: int) -> None:
    """Builds every row's segments without memory or compute; ScenarioError where a model cannot be cut so."""
    for name, defense in scenario.rows:
        try:
            with torch.device("meta"):
                scenario.plan(Cell(name, defense, 0), shape, classes).segments()
        except ScenarioError as error:
            raise ScenarioError(f"{error} (in row {name!r})") from error
        except (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError) as error:
            # Layers refuse sizes in any of these ways; torch has no error of its own for it.
            cause = str(error).partition("\n")[0].removesuffix("Exception raised from ")
            reason = f"cannot be built for images of shape {shape} in row {name!r} ({cause})"
            raise ScenarioError(reason, at="model", value=scenario.model.kind, remedy="choose other sizes") from error


_DEFAULTS: dict[str, document.Plain] = {
    "partition": {"kind": "dirichlet", "clients": 10, "alpha": 0.5},
    "protocol": {"kind": "splitfed_v1"},
    "optimizer": {"kind": "adam"},
    "defenses": {},
    "threats": [{"kind": "curious_server"}],
    "attacks": [{"kind": "linear_inverse"}, {"kind": "inverse_network"}],
    "metrics": [{"kind": "psnr"}, {"kind": "ssim"}],
    "engine": {"kind": "inline"},
}


_SMOKE: dict[str, document.Plain] = {
    "seeds": [0],
    "partition": {"kind": "equal", "clients": 2},
    "engine": {"kind": "inline"},
}
_SMOKE_INSIDE: dict[str, dict[str, document.Plain]] = {
    "protocol": {"rounds": 1, "batch_size": 16},
    "targets": {"count": 20},
}


def _filled(raw: Mapping[str, document.Plain]) -> dict[str, document.Plain]:
    # Plain values, so that `--set` can change one key of what the file leaves out.
    return {**deepcopy(_DEFAULTS), **raw}


def _rows(raw: document.Plain) -> document.Plain:
    if not isinstance(raw, dict):
        return raw
    rows: dict[str, document.Plain] = {}
    for name, row in chain.from_iterable(document.swept(row, name) for name, row in raw.items()):
        if name in rows:
            raise ScenarioError("is the name of two rows", at=f"defenses.{name}", remedy="name each row and value once")
        if len(rows) == _MOST_ROWS:
            remedy = f"{_MOST_ROWS} are allowed: sweep fewer values at once"
            raise ScenarioError("makes too many rows", at="defenses", value=name, remedy=remedy)
        rows[name] = row
    return {UNDEFENDED: {"kind": "none"}, **rows}


def _smoked(raw: Mapping[str, document.Plain]) -> dict[str, document.Plain]:
    """The same scenario on a few synthetic images, one round, one seed, inline: minutes become seconds."""
    smoked = {**raw, **deepcopy(_SMOKE)}
    dataset, attacks = raw.get("dataset"), raw.get("attacks")
    if isinstance(dataset, dict) and dataset.get("kind") != "digits":
        smoked["dataset"] = {"kind": "phantoms", "count": 360, "image_size": dataset.get("image_size") or 28}
    for key, edits in _SMOKE_INSIDE.items():
        whole = raw.get(key, {})
        smoked[key] = {**whole, **edits} if isinstance(whole, dict) else whole
    if isinstance(attacks, list):
        smoked["attacks"] = [_without_rounds(attack) for attack in attacks]
    return smoked


def _without_rounds(attack: document.Plain) -> document.Plain:
    if not isinstance(attack, dict):
        return attack
    return {key: value for key, value in attack.items() if key != "rounds"}


def _explained(error: ValidationError, raw: document.Plain) -> ScenarioError:
    first, *others = error.errors(include_url=False, include_context=False)
    at = _key_path(first["loc"], raw)
    more = "".join(f"; also {_key_path(other['loc'], raw)}: {other['msg']}" for other in others[:_MOST_ERRORS])
    remedy = _REMEDIES.get(first["type"], "give a value that fits") + more
    if first["type"] == "missing":
        return ScenarioError(first["msg"], at=at, remedy=remedy)
    return ScenarioError(first["msg"], at=at, value=first["input"], remedy=remedy)


def _key_path(location: tuple[int | str, ...], raw: document.Plain) -> str:
    """The place of an error as the file has it, without the names of variants that pydantic puts between."""
    parts: list[str] = []
    holder = raw
    for index, part in enumerate(location):
        if isinstance(holder, dict) and part in holder:
            holder = holder[str(part)]
        elif isinstance(holder, list) and isinstance(part, int) and part < len(holder):
            holder = holder[part]
        elif not isinstance(holder, dict) or index < len(location) - 1:
            continue
        parts.append(str(part))
    return ".".join(parts)


def _check_seeds(scenario: Scenario) -> None:
    if len(set(scenario.seeds)) < len(scenario.seeds):
        raise ScenarioError("names a seed twice", at="seeds", value=scenario.seeds, remedy="name each seed once")
    undefended = scenario.defenses[UNDEFENDED].kind
    if undefended != UNDEFENDED:
        remedy = "give this row another name: `none` is the undefended one"
        raise ScenarioError("is defended", at=f"defenses.{UNDEFENDED}", value=undefended, remedy=remedy)


def _check_metrics(scenario: Scenario) -> None:
    names = [metric.name for metric in scenario.metrics]
    if len(set(names)) < len(names):
        raise ScenarioError("names a metric twice", at="metrics", value=names, remedy="name each metric once")
    if scenario.headline not in names:
        remedy = f"use one of {', '.join(names)}, or add it to metrics"
        raise ScenarioError("is none of the metrics", at="headline", value=scenario.headline, remedy=remedy)
    for index, metric in enumerate(scenario.metrics):
        if metric.name == scenario.headline and not metric.per_target:
            reason = "scores a whole set: permuting the leak would not show in it"
            raise ScenarioError(reason, at="headline", value=metric.name, remedy="use a metric with a score per image")
        if metric.evaluated and not scenario.roles.evaluation:
            reason = "needs a network trained on evaluation rows, and there are none"
            raise ScenarioError(reason, at=f"metrics.{index}", value=metric.name, remedy="set roles.evaluation above 0")


def _check_attacks(scenario: Scenario) -> None:
    for index, attack in enumerate(scenario.attacks):
        at = f"attacks.{index}"
        if len(set(attack.rounds)) < len(attack.rounds):
            remedy = "name each round once"
            raise ScenarioError("names a round twice", at=f"{at}.rounds", value=attack.rounds, remedy=remedy)
        if late := [number for number in attack.rounds if number > scenario.protocol.rounds]:
            remedy = f"name rounds up to protocol.rounds = {scenario.protocol.rounds}"
            raise ScenarioError("is after the last round", at=f"{at}.rounds", value=late[0], remedy=remedy)
        if attack.leak == "training" and scenario.targets.source == "test":
            reason = "test rows are never trained on"
            raise ScenarioError(reason, at=f"{at}.leak", value="training", remedy="use targets.from: private")
        if not any(feeds(threat, attack) for threat in scenario.threats):
            remedy = "add a threat that has it, or attack the leak that holds it"
            raise ScenarioError(_hunger(attack, scenario.threats), at=at, value=attack.kind, remedy=remedy)


def _hunger(attack: Attack, threats: Sequence[Threat]) -> str:
    needs = ", ".join(sorted(attack.needs))
    missing = (
        f"{threat.kind} lacks {', '.join(sorted(attack.needs - _offered(threat, attack)))}" for threat in threats
    )
    return f"needs {needs}, but in the {attack.leak} leak {' and '.join(missing)}"


def _check_engine(scenario: Scenario) -> None:
    grain = scenario.protocol.grain
    if grain not in scenario.engine.grains:
        reason = f"cannot run {scenario.protocol.kind}, which crosses the cut at every {grain}"
        raise ScenarioError(reason, at="engine.kind", value=scenario.engine.kind, remedy="use another engine")


def _check_device(scenario: Scenario) -> None:
    _, _, number = scenario.device.partition(":")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if scenario.device != "cpu" and int(number or 0) >= there:
        raise ScenarioError("is not to be had here", at="device", value=scenario.device, remedy="use device: cpu")
