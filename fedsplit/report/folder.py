"""A run on disk: a root, and below it one folder per cell, each written whole or not at all."""

import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from fedsplit.errors import DataError
from fedsplit.records.exhibit import Exhibit
from fedsplit.records.outcome import SCHEMA, Outcomes
from fedsplit.report.exhibit_file import packed, unpacked

OUTCOMES = "outcomes.json"
EXHIBITS = "exhibits.safetensors"
SCENARIO = "scenario.yaml"
CARD = "card.txt"
"""The threat card that the run printed before it trained, in the root."""
CELLS = "cells.txt"
"""The cells of the run's scenario in the order of its table, a name per line, in the root."""


_PARTS = "attacks"
"""Outcomes of single attacks, in the folder of a cell that is not finished."""


@dataclass(frozen=True)
class CellFolder:
    """One victim training and what was tried on it."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.name

    @property
    def finished(self) -> bool:
        """Whether nothing is left to compute here: the outcomes can be read."""
        try:
            self.outcomes()
        except DataError:
            return False
        return True

    def holds(self, scenario: str) -> bool:
        """Whether the cell is finished, and was computed from this very scenario (as YAML)."""
        return self.finished and _text(self.path / SCENARIO) == scenario

    def begin(self, scenario: str) -> None:
        """Notes what is going to be computed here; what was computed from another scenario is no longer its outcome."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / OUTCOMES).unlink(missing_ok=True)
        if _text(self.path / SCENARIO) != scenario:
            shutil.rmtree(self.path / _PARTS, ignore_errors=True)
        write_whole(self.path / SCENARIO, scenario.encode())

    def part(self, name: str) -> "CellFolder":
        """Where the outcome of one attack waits for the others of its cell."""
        return CellFolder(self.path / _PARTS / name)

    def join(self, parts: Sequence[str]) -> None:
        """Finishes the cell with the outcomes of all its parts, in this order; the parts are gone then."""
        found = [self.part(name) for name in parts]
        told = [part.outcomes() for part in found]
        outcomes = told[0].model_copy(
            update={
                "outcomes": tuple(outcome for one in told for outcome in one.outcomes),
                "versions": _joined_versions(told),
            }
        )
        self.keep(cell_files(outcomes, [exhibit for part in found for exhibit in part.exhibits()]))
        shutil.rmtree(self.path / _PARTS, ignore_errors=True)

    def keep(self, files: Mapping[str, bytes]) -> None:
        """What `cell_files` gave, in its order: a crash leaves the cell as it was, or finished."""
        self.path.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_whole(self.path / name, content)

    def outcomes(self) -> Outcomes:
        """Raises DataError if the file is missing or broken."""
        return read_outcomes(self.path / OUTCOMES)

    def exhibits(self) -> tuple[Exhibit, ...]:
        """One per outcome, in the same order. Raises DataError if the file is missing, broken, or too short."""
        file = self.path / EXHIBITS
        remedy = "delete the cell's folder and simulate again"
        try:
            exhibits = unpacked(file)
        except FileNotFoundError:
            raise DataError("the exhibits of a finished cell are missing", at=str(file), remedy=remedy) from None
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be read: {error}", at=str(file), remedy=remedy) from error
        expected = len(self.outcomes().outcomes)
        if len(exhibits) != expected:
            raise DataError(f"holds {len(exhibits)} exhibits for {expected} outcomes", at=str(file), remedy=remedy)
        return exhibits


def cell_files(outcomes: Outcomes, exhibits: Sequence[Exhibit]) -> dict[str, bytes]:
    """What the folder of a finished cell holds, by file name. exhibits: one per outcome, in the same order."""
    assert len(exhibits) == len(outcomes.outcomes), "one exhibit per outcome"
    # The outcomes come last: where they can be read, the exhibits are there.
    return {EXHIBITS: packed(exhibits), OUTCOMES: _json(outcomes)}


@dataclass(frozen=True)
class RunFolder:
    """The root of a run."""

    root: Path

    def cell(self, name: str) -> CellFolder:
        """The folder of one cell, whether it exists or not."""
        return CellFolder(self.root / name)

    def begin(self, scenario: str, card: str, cells: Sequence[str]) -> None:
        """Notes the resolved scenario (YAML), the threat card, and the names of the cells in the table's order."""
        self.root.mkdir(parents=True, exist_ok=True)
        for name, text in ((SCENARIO, scenario), (CARD, card), (CELLS, "\n".join(cells))):
            write_whole(self.root / name, text.encode())

    def cells(self) -> tuple[CellFolder, ...]:
        """The cells begun so far, in the order noted; cells of an earlier, different scenario are passed over."""
        if not self.root.is_dir():
            raise DataError("no such run folder", at=str(self.root), remedy="check the path, or simulate first")
        noted = _text(self.root / CELLS).splitlines()
        paths = [self.root / name for name in noted] if noted else sorted(self.root.iterdir())
        marks = (SCENARIO, OUTCOMES)
        return tuple(CellFolder(path) for path in paths if any((path / mark).is_file() for mark in marks))

    def unfinished(self) -> int:
        """How many cells were begun and have no outcomes yet."""
        return len(self.cells()) - len(self._with_outcomes())

    def join(self) -> Outcomes:
        """All outcomes of all cells in the order of `cells`, also written to the root's `outcomes.json`.

        Raises DataError if a file is broken, no cell is finished, or the cells do not belong together.
        """
        parts = [cell.outcomes() for cell in self._with_outcomes()]
        if not parts:
            raise DataError("no cell of this run is finished", at=str(self.root), remedy="simulate first")
        self._check_kinship(parts)
        joined = parts[0].model_copy(
            update={
                "outcomes": tuple(outcome for part in parts for outcome in part.outcomes),
                "versions": _joined_versions(parts),
            }
        )
        write_whole(self.root / OUTCOMES, _json(joined))
        return joined

    def exhibits(self) -> tuple[Exhibit, ...]:
        """One per outcome, in the order of `join`."""
        return tuple(exhibit for cell in self._with_outcomes() for exhibit in cell.exhibits())

    def scenario(self) -> str:
        """The resolved scenario as YAML, of the run or of its first cell; empty if none was kept."""
        places = (self.root, *(cell.path for cell in self.cells()))
        return next((text for place in places if (text := _text(place / SCENARIO))), "")

    def card(self) -> str:
        """Who holds what and who sees what, in words; empty if none was kept."""
        return _text(self.root / CARD)

    def _with_outcomes(self) -> tuple[CellFolder, ...]:
        return tuple(cell for cell in self.cells() if (cell.path / OUTCOMES).is_file())

    def _check_kinship(self, parts: Sequence[Outcomes]) -> None:
        # Numbers on a stand-in must never share a table with numbers on the data that was asked for.
        kinds = {(part.scenario, part.data.kind, part.data.stand_in, part.data.notice) for part in parts}
        if len(kinds) > 1:
            remedy = "move the cells of one scenario and one data set to a folder of their own"
            raise DataError("cells of different scenarios or data lie side by side", at=str(self.root), remedy=remedy)
        keys = Counter(
            (outcome.defense, outcome.threat, outcome.attack, outcome.leak, outcome.round, outcome.seed)
            for part in parts
            for outcome in part.outcomes
        )
        for key, count in keys.items():
            if count > 1:
                remedy = "delete all but one of the cells that hold it"
                raise DataError(f"this outcome is there {count} times", at=str(self.root), value=key, remedy=remedy)


def read_outcomes(file: Path) -> Outcomes:
    """The content of an `outcomes.json`. Raises DataError if it is missing, broken, or of another schema."""
    try:
        outcomes = Outcomes.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise DataError("no outcomes here", at=str(file), remedy="simulate first") from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", at=str(file), remedy="check its permissions") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = f"broken: {where}: {first['msg']}" if where else f"broken: {first['msg']}"
        raise DataError(reason, at=str(file), remedy="delete the file and simulate again") from error
    if outcomes.schema_ != SCHEMA:
        remedy = "read it with the version of fedsplit that wrote it"
        raise DataError(f"schema {outcomes.schema_}, this version reads {SCHEMA}", at=str(file), remedy=remedy)
    return outcomes


def write_whole(file: Path, content: bytes) -> None:
    """Whoever looks at `file`, even after a crash, sees its old content or all of the new one."""
    temporary = file.with_name(f".{file.name}.partial")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _json(outcomes: Outcomes) -> bytes:
    return outcomes.model_dump_json(indent=1).encode() + b"\n"


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def _joined_versions(parts: Sequence[Outcomes]) -> dict[str, str]:
    names = sorted({name for part in parts for name in part.versions})
    found = {name: sorted({part.versions[name] for part in parts if name in part.versions}) for name in names}
    return {name: " and ".join(versions) for name, versions in found.items()}
