"""The experiment: every unfinished cell of a scenario, run here or where the engine has room, joined in one folder."""

import hashlib
import json
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import torch

from fedsplit import document
from fedsplit.component import Settings, Trust
from fedsplit.errors import DataError, EngineError
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.errand import Errand, Files
from fedsplit.numerics.fingerprint import fingerprint_of
from fedsplit.parties import gather
from fedsplit.reading import parse
from fedsplit.records.images import Images
from fedsplit.records.outcome import DataNote, Outcome, Outcomes
from fedsplit.report.folder import RunFolder, cell_files
from fedsplit.scenario import UNDEFENDED, Cell, Scenario
from fedsplit.seeding import Seeds
from fedsplit.trial import Passed, run_cell


def simulate(scenario: Scenario, root: Path, say: Callable[[str], None], card: str = "") -> Outcomes:
    """Runs every cell that is not finished, then joins the outcomes. What is being done is told to `say`.

    card: what the run's folder keeps about who holds and sees what.
    """
    run = RunFolder(root)
    with writing(root):
        run.begin(document.dump(scenario.dump()), card, [cell.folder for cell in scenario.cells])
    scenario.engine.begin()
    images = scenario.dataset.load()
    note = _note(scenario, images)
    say(_told(note))
    lab = Laboratory(scenario, images, note)
    # The undefended cells first: the others are judged by their outcomes, too.
    for undefended in (True, False):
        due = [cell for cell in scenario.cells if (cell.row == UNDEFENDED) == undefended]
        _run(lab, run, due, say)
    return run.join()


def _run(lab: "Laboratory", run: RunFolder, cells: Sequence[Cell], say: Callable[[str], None]) -> None:
    """These cells, side by side where the engine can."""
    due: dict[str, Cell] = {}
    for cell in cells:
        folder, essence = run.cell(cell.folder), lab.essence(cell)
        if folder.holds(essence):
            say(f"{cell}: finished before")
        else:
            with writing(folder.path):
                folder.begin(essence)
            due[cell.folder] = cell
    passed = _passed(lab.scenario, run)

    def here(errand: Errand) -> Files:
        cell = due[errand.name]
        say(str(cell))
        return lab.run(cell, run.cell(cell.folder).path, passed)

    errands = [Assignment.of(lab, cell, run.cell(cell.folder).path, passed).errand for cell in due.values()]
    for name, files in lab.scenario.engine.spread(errands, here, say):
        folder = run.cell(name)
        with writing(folder.path):
            folder.keep(files)


def _passed(scenario: Scenario, run: RunFolder) -> Passed:
    """Which attacks are valid on the undefended cells that are finished."""
    folders = (run.cell(cell.folder) for cell in scenario.cells if cell.row == UNDEFENDED)
    finished = (folder.outcomes().outcomes for folder in folders if folder.finished)
    return {_key(outcome): outcome.valid for outcomes in finished for outcome in outcomes}


class Laboratory:
    """Where cells of one scenario are run: the images, and the parties of each seed, drawn once."""

    def __init__(self, scenario: Scenario, images: Images, note: DataNote) -> None:
        self.scenario = scenario
        self.source = fingerprint_of((images.pixels, images.labels, images.groups))
        self._note = note
        self._parties = lru_cache(maxsize=None)(lambda seed: gather(scenario, images, Seeds(seed)))

    def run(self, cell: Cell, folder: Path, passed: Passed) -> Files:
        """What a cell's folder keeps of it, in the order in which it has to be written."""
        checkpoint = Checkpoint(folder, _training(self.scenario, cell, self.source))
        outcomes, exhibits = run_cell(self.scenario, cell, self._parties(cell.seed), checkpoint, passed)
        everything = Outcomes(scenario=self.scenario.name, data=self._note, outcomes=outcomes, versions=_versions())
        return cell_files(everything, exhibits)

    def essence(self, cell: Cell) -> str:
        """All that a cell's numbers depend on, as YAML; how it is executed is left out, since it does not matter."""
        dumped = {key: value for key, value in self.scenario.only(cell).dump().items() if key != "engine"}
        # The scenario does not tell whether a stand-in stepped in, or whether the files have changed.
        hijacking = f"# hijacked by {cell.hijacker}\n" if cell.hijacker is not None else ""
        return f"# images {self.source}\n{hijacking}{document.dump(dumped)}"


class Assignment(Settings):
    """A cell as any process can run it that finds the same images."""

    scenario: str
    """As JSON."""
    cell: str
    folder: Path
    source: str
    """A fingerprint of the images."""
    passed: tuple[tuple[tuple[int, str, str, str, int], bool], ...]

    @classmethod
    def of(cls, lab: Laboratory, cell: Cell, folder: Path, passed: Passed) -> "Assignment":
        """One cell of this laboratory."""
        return cls(
            scenario=json.dumps(lab.scenario.dump()),
            cell=cell.folder,
            folder=folder.absolute(),
            source=lab.source,
            passed=tuple(passed.items()),
        )

    @property
    def errand(self) -> Errand:
        """For the engine."""
        return Errand(name=self.cell, function=f"{__name__}:run_elsewhere", settings=self.model_dump_json())


def run_elsewhere(settings: str) -> Files:
    """Runs an assignment in this process alone. Raises DataError where the images here are other ones."""
    assignment = Assignment.model_validate_json(settings)
    lab = _laboratory(assignment.scenario)
    if lab.source != assignment.source:
        remedy = "put the same files on every machine of the cluster"
        raise DataError("the images are other ones on this machine", at="dataset", remedy=remedy)
    cell = next(cell for cell in lab.scenario.cells if cell.folder == assignment.cell)
    return lab.run(cell, assignment.folder, dict(assignment.passed))


@lru_cache(maxsize=1)
def _laboratory(scenario: str) -> Laboratory:
    # One process is one worker: here, too, numbers do not depend on the engine.
    parsed = parse({**json.loads(scenario), "engine": {"kind": "inline"}}, Trust())
    images = parsed.dataset.load()
    return Laboratory(parsed, images, _note(parsed, images))


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Whatever cannot be written inside becomes one EngineError."""
    try:
        yield
    except OSError as error:
        remedy = "free some space, or choose another folder with --out"
        at = str(error.filename or folder)
        raise EngineError(f"cannot be written ({error.strerror})", at=at, remedy=remedy) from error


def _key(outcome: Outcome) -> tuple[int, str, str, str, int]:
    return outcome.seed, outcome.threat, outcome.attack, outcome.leak, outcome.round


def _training(scenario: Scenario, cell: Cell, source: str) -> str:
    """A fingerprint of all that the training depends on, so that another attack or metric finds it done."""
    judged_by = {"name", "engine", "threats", "attacks", "metrics", "headline"}
    dumped = {key: value for key, value in scenario.only(cell).dump().items() if key not in judged_by}
    hijacking = scenario.hijacking(cell)
    dumped["hijacking"] = None if hijacking is None else hijacking.model_dump(mode="json")
    text = document.dump({**dumped, "recording": scenario.recording(cell).model_dump(mode="json"), "images": source})
    return hashlib.sha256(text.encode()).hexdigest()


def _note(scenario: Scenario, images: Images) -> DataNote:
    sizes = torch.bincount(torch.unique(images.groups, return_inverse=True)[1])
    return DataNote(
        kind=scenario.dataset.kind,
        stand_in=bool(images.notice),
        notice=images.notice,
        images=len(images),
        duplicates=images.duplicates,
        grouped=int(sizes[sizes > 1].sum()),
        classes=images.class_names,
    )


def _told(note: DataNote) -> str:
    counts = f"{note.images:,} images, {note.duplicates} exact copies dropped, {note.grouped} in groups"
    return f"{counts}; {note.notice}" if note.notice else counts


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in ("fedsplit", "torch", "numpy")}}
