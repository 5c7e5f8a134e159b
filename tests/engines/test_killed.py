"""A run whose command is killed and given again: nothing is left over, nothing is done twice, no number changes."""

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from torch import Generator, nn

from fedsplit.defenses.gaussian_noise import GaussianNoise
from fedsplit.document import dump
from fedsplit.records.step import ClientStep
from fedsplit.simulate import simulate
from tests import tiny
from tests.engines.processes import MARK, marked_processes, wait_until_gone

PROJECT = Path(__file__).parents[2]
COMMAND = "from fedsplit.cli import main; main()"
ROUNDS = 4
MEASURED = {"seconds", "training_seconds"}


class Halts(GaussianNoise):
    """Counts its steps. While the gate is closed, no cell goes on once one of them has so many rounds on disk."""

    folder: str
    rounds: int

    def after_step(self, segment: nn.Module, step: ClientStep, rng: Generator) -> None:
        folder = Path(self.folder)
        with (folder / "steps").open("a") as steps:
            steps.write(".")
        while not (folder / "gate").exists():
            if max(progress(cell)["round"] for cell in cells(folder / "run", "halts")) < self.rounds:
                return
            (folder / "halted").touch()
            time.sleep(0.02)


def cells(run: Path, row: str) -> list[Path]:
    return sorted(run.glob(f"{row}-seed-*"))


def progress(cell: Path) -> dict[str, int]:
    """How many rounds of a cell are on disk, and how many steps they took."""
    found = [{"round": 0, "steps": 0}]
    for path in (cell / "checkpoint").glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            meta = json.loads(file.metadata()["fedsplit"])
        found.append({"round": meta["round"], "steps": meta["steps"]})
    return max(found, key=lambda one: one["round"])


def kept(run: Path, row: str) -> dict[Path, tuple[int, bytes]]:
    """Every file of these cells: when it was written, and what it holds."""
    files = (path for cell in cells(run, row) for path in cell.rglob("*") if path.is_file())
    return {path.relative_to(run): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def numbers(run: Path) -> list[dict[str, Any]]:
    outcomes = json.loads((run / "outcomes.json").read_text())["outcomes"]
    return [{key: value for key, value in outcome.items() if key not in MEASURED} for outcome in outcomes]


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    value = uuid.uuid4().hex
    monkeypatch.setenv(MARK, value)
    return value


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the command puts what it needs only while it runs. Ray's sockets need a short path."""
    with tempfile.TemporaryDirectory(prefix="kill-", dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


def command(scenario: Path, out: Path) -> list[str]:
    return [sys.executable, "-c", COMMAND, "simulate", str(scenario), "--out", str(out)]


def on_ray(*seeds: int) -> list[str]:
    return ["engine={kind: ray, workers: 2}", f"seeds={list(seeds)}"]


@pytest.mark.parametrize(
    ("assignments", "rounds"),
    [
        pytest.param(["engine={kind: inline}"], 1, id="in a cell, inline"),
        pytest.param(["engine={kind: inline}"], 0, id="before a cell, inline"),
        pytest.param(on_ray(0), 1, marks=pytest.mark.engine, id="in a cell, clients on ray"),
        pytest.param(on_ray(0, 1), 1, marks=pytest.mark.engine, id="in one of several cells on ray"),
    ],
)
def test_a_command_that_was_killed_goes_on_from_the_last_round(
    assignments: list[str], rounds: int, tmp_path: Path, temporary: Path, mark: str
) -> None:
    halts = f"defenses.halts={{kind: '{__name__}:Halts', std: 0.5, folder: '{tmp_path}', rounds: {rounds}}}"
    settings = ("defenses={}", halts, f"protocol.rounds={ROUNDS}", *assignments)
    scenario, run = tmp_path / "scenario.yaml", tmp_path / "run"
    scenario.write_text(dump(tiny.raw(*settings)))
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    # Cells that are finished already.
    simulate(tiny.scenario(*settings, "defenses={}", "engine={kind: inline}"), run, print)

    running = subprocess.Popen(command(scenario, run), env=environment, stdout=subprocess.DEVNULL)
    while not (tmp_path / "halted").exists():
        assert running.poll() is None
        time.sleep(0.02)
    assert marked_processes(mark)
    # This process alone, as somebody short of memory would.
    running.kill()
    running.wait()
    assert wait_until_gone(mark, seconds=10) == []
    assert list(temporary.glob("fedsplit-*")) == []

    left = [progress(cell) for cell in cells(run, "halts")]
    assert max(one["round"] for one in left) == rounds
    before, finished = len((tmp_path / "steps").read_text()), kept(run, "none")
    assert {path.name for path in finished} >= {"outcomes.json", "standing-0.safetensors"}

    (tmp_path / "gate").touch()
    done = subprocess.run(command(scenario, run), env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.count("finished before") == len(cells(run, "none"))
    assert kept(run, "none") == finished
    missing = sum(progress(cell)["steps"] for cell in cells(run, "halts")) - sum(one["steps"] for one in left)
    assert missing > 0
    assert len((tmp_path / "steps").read_text()) - before == missing
    assert wait_until_gone(mark, seconds=10) == []

    expected = tmp_path / "expected"
    simulate(tiny.scenario(*settings, "engine={kind: inline}"), expected, print)
    assert numbers(run) == numbers(expected)
    for path in expected.glob("*-seed-*/ledger/*"):
        assert path.read_bytes() == (run / path.relative_to(expected)).read_bytes()
    assert list(expected.glob("*-seed-*/ledger/*"))
