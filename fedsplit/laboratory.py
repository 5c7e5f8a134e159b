"""Where the cells of one scenario are worked on, piece by piece: a training, or one attack on what it gave."""

import hashlib
import json
import platform
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import torch

from fedsplit import document
from fedsplit.cargo import loaded, unloaded
from fedsplit.component import Settings, Trust
from fedsplit.datasets.base import Dataset
from fedsplit.engines.base import Engine
from fedsplit.errors import DataError
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.errand import Errand, Files, Handed
from fedsplit.numerics.fingerprint import fingerprint_of
from fedsplit.origins import origins
from fedsplit.parties import gather
from fedsplit.reading import parse
from fedsplit.records.images import Images
from fedsplit.records.outcome import DataNote, Outcomes
from fedsplit.report.folder import OUTCOMES, cell_files
from fedsplit.scenario import Cell, Scenario
from fedsplit.seeding import Seeds
from fedsplit.trial import fight, train
from fedsplit.victim import Victim

IMAGES = "images"
"""Among what is handed over: the images of the attacked data set, and after it, by number, those of the others."""


_EXECUTION = frozenset({"engine"})
"""How a scenario is executed, which does not matter to any number."""
_JUDGED_BY = _EXECUTION | {"name", "threats", "attacks", "metrics", "bounds", "headline", "class_headline"}
"""What a training does not know of."""


class Assignment(Settings):
    """A piece of work on one cell, as any process can do it that finds the same images."""

    scenario: str
    """As JSON."""
    cell: str
    """The name of its folder."""
    folder: Path
    """The cell's."""
    sources: tuple[str, ...]
    """Fingerprints of the images, data set by data set."""
    duel: int | None = None
    """Which of those about this victim; None for the training."""
    part: str = ""
    """What the outcome of this duel is called within the cell."""
    judged_by: str = ""
    """The assignment of the same attack on the undefended row, where its outcome is not known yet."""
    passed: bool = True
    """Whether that attack is valid, where it is known, or where this is the undefended row."""

    @property
    def name(self) -> str:
        """Unique in a run."""
        return self.cell if self.duel is None else f"{self.cell}/{self.part}"

    @property
    def errand(self) -> Errand:
        """For the engine."""
        after = () if self.duel is None else (self.cell, self.judged_by) if self.judged_by else (self.cell,)
        return Errand(
            name=self.name,
            function=f"{__name__}:do_elsewhere",
            settings=self.model_dump_json(),
            after=after,
            kept=self.duel is not None,
        )


class Laboratory:
    """The images, and the parties of each seed, drawn once."""

    def __init__(self, scenario: Scenario, images: Sequence[Images], engine: Engine) -> None:
        """images: of the attacked data set, and then of the scenario's others. engine: what trains here; the
        scenario's own, or another one in its place."""
        self.scenario = scenario
        self._engine = engine
        self.sources = tuple(map(_source, images))
        self.supplies: Handed = {_supply(number): loaded(one) for number, one in enumerate(images)}
        """What an assignment needs on a machine that has no such images."""
        self.note = _note(scenario, images)
        attacked, *others = images
        self._parties = lru_cache(maxsize=None)(lambda seed: gather(scenario, attacked, others, Seeds(seed)))
        self._cells = {cell.folder: cell for cell in scenario.cells}
        self._victims: dict[str, Victim] = {}
        """The last one that was trained or attacked here, by its cell."""

    def do(self, assignment: Assignment, handed: Handed) -> Files:
        """A training gives the victim, an attack the files of its part of the cell."""
        cell = self._cells[assignment.cell]
        if assignment.duel is None:
            checkpoint = Checkpoint(assignment.folder, _training(self.scenario, cell, self._trained_on))
            victim = train(self.scenario, cell, self._parties(cell.seed), self._engine, checkpoint)
            self._victims = {assignment.cell: victim}
            return victim.packed()
        passed = assignment.passed
        if assignment.judged_by:
            judged = Outcomes.model_validate_json(handed[assignment.judged_by][OUTCOMES])
            passed = all(outcome.valid for outcome in judged.outcomes)
        victim = self._victim(cell, handed)
        duel = self.scenario.duels_of(cell)[assignment.duel]
        outcome, exhibit = fight(self.scenario, cell, duel, victim, passed=passed)
        everything = Outcomes(scenario=self.scenario.name, data=self.note, outcomes=(outcome,), versions=_versions())
        return cell_files(everything, (exhibit,))

    def essence(self, cell: Cell) -> str:
        """All that a cell's numbers depend on, as YAML; how it is executed is left out, since it does not matter."""
        own = self.scenario.only(cell)
        dumped = {key: value for key, value in own.dump().items() if key not in _EXECUTION}
        # The scenario does not tell whether a stand-in stepped in, or whether files and plug-ins have changed.
        notes = [f"images {' '.join(self.sources)}", *origins(own, without=_EXECUTION)]
        if cell.hijacker is not None:
            notes.append(f"hijacked by {cell.hijacker}")
        return "".join(f"# {note}\n" for note in notes) + document.dump(dumped)

    @property
    def _trained_on(self) -> str:
        """Fingerprints of the images that a training depends on."""
        sources = dict(zip(self.scenario.datasets, self.sources, strict=True))
        known = (self.scenario.dataset, self.scenario.public.dataset)
        return " ".join(sources[dataset] for dataset in known if dataset is not None)

    def _victim(self, cell: Cell, handed: Handed) -> Victim:
        if cell.folder not in self._victims:
            self._victims = {cell.folder: Victim.unpacked(handed[cell.folder], self._parties(cell.seed))}
        return self._victims[cell.folder]


def do_elsewhere(settings: str, handed: Handed) -> Files:
    """Does an assignment in this process alone, on this machine's images or, where they are not those that are meant,
    on those among what is handed over. Raises DataError where there are none."""
    assignment = Assignment.model_validate_json(settings)
    meant = (assignment.scenario, assignment.sources)
    if meant not in _labs:
        # One process is one worker: here, too, numbers do not depend on the engine.
        parsed = parse({**json.loads(assignment.scenario), "engine": {"kind": "inline"}}, Trust())
        images = [
            _images(dataset, source, handed.get(_supply(number)))
            for number, (dataset, source) in enumerate(zip(parsed.datasets, assignment.sources, strict=True))
        ]
        _labs.clear()
        _labs[meant] = Laboratory(parsed, images, parsed.engine)
    return dict(_labs[meant].do(assignment, handed))


_labs: dict[tuple[str, tuple[str, ...]], Laboratory] = {}
"""The last one of this process, by the scenario and the images' fingerprints."""


def _supply(number: int) -> str:
    return f"{IMAGES}-{number}" if number else IMAGES


def _images(dataset: Dataset, source: str, supplied: Files | None) -> Images:
    try:
        found = dataset.load()
    except DataError:
        if supplied is None:
            raise
        found = unloaded(supplied)
    if _source(found) != source and supplied is not None:
        found = unloaded(supplied)
    if _source(found) != source:
        remedy = "put the same files on every machine of the cluster"
        raise DataError("the images are other ones on this machine", at="dataset", remedy=remedy)
    return found


def _source(images: Images) -> str:
    return fingerprint_of((images.pixels, images.labels, images.groups))


def _training(scenario: Scenario, cell: Cell, source: str) -> str:
    """A fingerprint of all that the training depends on, so that another attack or metric finds it done."""
    own = scenario.only(cell)
    dumped = {key: value for key, value in own.dump().items() if key not in _JUDGED_BY}
    hijacking = scenario.hijacking(cell)
    dumped["hijacking"] = None if hijacking is None else hijacking.model_dump(mode="json")
    text = document.dump({**dumped, "recording": scenario.recording(cell).model_dump(mode="json"), "images": source})
    # An attack that serves belongs to the training, and no other one does.
    hijacker = scenario.hijacker(cell)
    code = (*origins(own, without=_JUDGED_BY), *(() if hijacker is None else origins(hijacker)))
    text = "".join((*(f"# {line}\n" for line in code), text))
    return hashlib.sha256(text.encode()).hexdigest()


def _note(scenario: Scenario, all_images: Sequence[Images]) -> DataNote:
    images = all_images[0]
    notice = "; ".join(dict.fromkeys(one.notice for one in all_images if one.notice))
    sizes = torch.bincount(torch.unique(images.groups, return_inverse=True)[1])
    return DataNote(
        kind=scenario.dataset.kind,
        stand_in=bool(notice),
        notice=notice,
        images=len(images),
        duplicates=images.duplicates,
        grouped=int(sizes[sizes > 1].sum()),
        classes=images.class_names,
    )


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in ("fedsplit", "torch", "numpy")}}
