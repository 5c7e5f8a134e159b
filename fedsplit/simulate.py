"""The experiment: every unfinished cell of a scenario, piece by piece, here or where the engine has room for it."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fedsplit import document
from fedsplit.engines.base import Engine
from fedsplit.errors import EngineError
from fedsplit.federation.errand import Errand, Files, Handed
from fedsplit.laboratory import Assignment, Laboratory
from fedsplit.records.outcome import DataNote, Outcome, Outcomes
from fedsplit.report.folder import CellFolder, RunFolder
from fedsplit.scenario import UNDEFENDED, Cell, Scenario, plain


def simulate(
    scenario: Scenario, root: Path, say: Callable[[str], None], card: str = "", engine: Engine | None = None
) -> Outcomes:
    """Runs every cell that is not finished, then joins the outcomes. What is being done is told to `say`.

    card: what the run's folder keeps about who holds and sees what. engine: in place of the scenario's own.
    """
    engine = engine or scenario.engine
    run = RunFolder(root)
    with writing(root):
        run.begin(document.dump(scenario.dump()), card, [cell.folder for cell in scenario.cells])
    engine.begin()
    lab = Laboratory(scenario, [dataset.load() for dataset in scenario.datasets], engine)
    say(_told(lab.note))
    due = {cell.folder: cell for cell in scenario.cells if _is_due(lab, run.cell(cell.folder), cell, say)}
    parts = {
        name: [f"{index}-{plain(duel.attack_name)}" for index, duel in enumerate(scenario.duels_of(cell))]
        for name, cell in due.items()
    }
    # The undefended row comes first: the others are judged by its outcomes, too.
    work = {one.name: one for name, cell in due.items() for one in _assignments(lab, run, cell, parts[name])}

    def here(errand: Errand, handed: Handed) -> Files:
        assignment = work[errand.name]
        if assignment.duel is None:
            say(str(due[assignment.cell]))
        return lab.do(assignment, handed)

    errands = [assignment.errand for assignment in work.values()]
    for name, files in engine.spread(errands, here, say, lab.supplies):
        folder = run.cell(work[name].cell)
        with writing(folder.path):
            folder.part(work[name].part).keep(files)
            _finish(folder, parts[work[name].cell])
    return run.join()


def _is_due(lab: Laboratory, folder: CellFolder, cell: Cell, say: Callable[[str], None]) -> bool:
    essence = lab.essence(cell)
    if folder.holds(essence):
        say(f"{cell}: finished before")
        return False
    with writing(folder.path):
        folder.begin(essence)
    return True


def _assignments(lab: Laboratory, run: RunFolder, cell: Cell, parts: Sequence[str]) -> Iterator[Assignment]:
    """What is left to do of a cell: its training, then every attack on it whose part is not finished."""
    folder = run.cell(cell.folder)
    left = [(place, part) for place, part in enumerate(parts) if not folder.part(part).finished]
    if not left:
        with writing(folder.path):
            _finish(folder, parts)
        return
    training = Assignment(
        scenario=json.dumps(lab.scenario.dump()), cell=cell.folder, folder=folder.path.absolute(), sources=lab.sources
    )
    yield training
    judge = replace(cell, row=UNDEFENDED, defense=lab.scenario.defenses[UNDEFENDED])
    for place, part in left:
        attack = training.model_copy(update={"duel": place, "part": part})
        judged = None if cell == judge else _outcome(run.cell(judge.folder), place, part)
        if cell != judge and judged is None:
            attack = attack.model_copy(update={"judged_by": attack.model_copy(update={"cell": judge.folder}).name})
        yield attack if judged is None else attack.model_copy(update={"passed": judged.valid})


def _outcome(folder: CellFolder, place: int, part: str) -> Outcome | None:
    """Of one attack on a cell, where it is known already."""
    if folder.finished:
        return folder.outcomes().outcomes[place]
    return folder.part(part).outcomes().outcomes[0] if folder.part(part).finished else None


def _finish(folder: CellFolder, parts: Sequence[str]) -> None:
    """Joins the parts of a cell as soon as all are there."""
    if all(folder.part(part).finished for part in parts):
        folder.join(parts)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Whatever cannot be written inside becomes one EngineError."""
    try:
        yield
    except OSError as error:
        remedy = "free some space, or choose another folder with --out"
        at = str(error.filename or folder)
        raise EngineError(f"cannot be written ({error.strerror})", at=at, remedy=remedy) from error


def _told(note: DataNote) -> str:
    counts = f"{note.images:,} images, {note.duplicates} exact copies dropped, {note.grouped} in groups"
    return f"{counts}; {note.notice}" if note.notice else counts
