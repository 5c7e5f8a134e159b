"""Cells side by side as Ray tasks: the same outcomes as one after the other, in one terminal view."""

import json
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Generator, nn

from fedsplit.attacks.linear_inverse import LinearInverse
from fedsplit.defenses.base import Defense
from fedsplit.defenses.gaussian_noise import GaussianNoise
from fedsplit.errors import EngineError
from fedsplit.progress import observed_by
from fedsplit.records.leak import Leak
from fedsplit.records.outcome import Outcomes
from fedsplit.records.reconstruction import Reconstruction
from fedsplit.records.step import ClientStep
from fedsplit.report.folder import RunFolder
from fedsplit.simulate import simulate
from tests import tiny
from tests.engines.processes import wait_until_gone
from tests.engines.test_failures import mark as mark  # noqa: PLC0414  (a fixture)

pytestmark = pytest.mark.engine

ROWS = "defenses={noise: {kind: gaussian_noise, std: 0.5}, rank: {kind: low_rank, rank: 2}}"
TWO = "engine={kind: ray, workers: 2}"


class Collapses(Defense):
    """Fails in training, as soon as a file is there."""

    file: str

    def after_step(self, segment: nn.Module, step: ClientStep, rng: Generator) -> None:
        while not Path(self.file).exists():
            time.sleep(0.02)
        raise ValueError("fell over")


class Dies(GaussianNoise):
    """Tells which processes it trains in. Ends so many of them, one after the other, when a file is there."""

    folder: str
    times: int
    file: str
    waits: bool
    """For the file, at every step."""

    def after_step(self, segment: nn.Module, step: ClientStep, rng: Generator) -> None:
        pids = Path(self.folder)
        (pids / str(os.getpid())).touch()
        if len(list(pids.iterdir())) <= self.times:
            while self.waits and not Path(self.file).exists():
                time.sleep(0.02)
            if Path(self.file).exists():
                os.kill(os.getpid(), signal.SIGKILL)


class Watcher:
    """Notes all loops, whenever they run."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []
        self.open = 0

    def started(self, description: str, total: int) -> object:
        self.begun.append((description, total))
        self.open += 1
        return description

    def advanced(self, loop: object) -> None:
        assert loop in dict(self.begun)

    def finished(self, loop: object) -> None:
        assert loop in dict(self.begun)
        self.open -= 1


def run(root: Path, *assignments: str) -> tuple[Outcomes, list[str]]:
    said: list[str] = []
    return simulate(tiny.scenario(*assignments), root, said.append), said


def numbers(outcomes: Outcomes) -> list[dict[str, Any]]:
    return [outcome.model_dump(exclude={"seconds", "training_seconds"}) for outcome in outcomes.outcomes]


def test_outcomes_are_those_of_one_process(tmp_path: Path) -> None:
    watcher = Watcher()
    with observed_by(watcher):
        found, said = run(tmp_path / "found", ROWS, TWO, "seeds=[0, 1]")
    expected, _ = run(tmp_path / "expected", ROWS, "seeds=[0, 1]", "engine={kind: inline}")
    assert numbers(found) == numbers(expected)
    names = [f"{row}-seed-{seed}" for seed in (0, 1) for row in ("none", "noise", "rank")]
    assert said[1:] == [f"6 cells side by side: {', '.join(names)}"]
    assert {f"{name}: training" for name in names} <= set(dict(watcher.begun))
    assert watcher.open == 0
    for cell in RunFolder(tmp_path / "found").cells():
        other = tmp_path / "expected" / cell.name
        assert (cell.path / "exhibits.safetensors").read_bytes() == (other / "exhibits.safetensors").read_bytes()


def dying(**settings: object) -> str:
    dies = json.dumps({"kind": f"{__name__}:Dies", "std": 0.5, **settings}, default=str)
    return f"defenses={{noise: {{kind: gaussian_noise, std: 0.5}}, dies: {dies}}}"


def test_a_cell_whose_process_dies_goes_on_in_another_one(tmp_path: Path) -> None:
    found, pids = tmp_path / "found", tmp_path / "pids"
    pids.mkdir()
    # In the second of its three rounds.
    first = found / "dies-seed-0" / "checkpoint" / "standing-1.safetensors"
    rows = dying(folder=pids, times=1, file=first, waits=False)
    watcher = Watcher()
    with observed_by(watcher):
        outcomes, _ = run(found, rows, TWO)
    assert len(list(pids.iterdir())) == 2
    assert [total for name, total in watcher.begun if name == "dies-seed-0: training"] == [3, 2]
    assert watcher.open == 0
    expected, _ = run(tmp_path / "expected", rows, "engine={kind: inline}")
    assert numbers(outcomes) == numbers(expected)


def test_a_cell_that_fails_is_one_line_and_finished_cells_stay(tmp_path: Path, mark: str) -> None:
    finished = json.dumps(str(tmp_path / "none-seed-0" / "outcomes.json"))
    broken = f"{{kind: '{__name__}:Collapses', file: {finished}}}"
    with pytest.raises(EngineError) as caught:
        run(tmp_path, f"defenses={{broken: {broken}, noise: {{kind: gaussian_noise, std: 0.5}}}}", TWO)
    assert str(caught.value).startswith("client 0, round 1: training failed (ValueError: fell over); ")
    assert wait_until_gone(mark, seconds=5) == []
    _, said = run(tmp_path, "defenses={noise: {kind: gaussian_noise, std: 0.5}}", "engine={kind: inline}")
    assert said[1] == "none, seed 0: finished before"


def test_a_cell_whose_process_dies_each_time_is_one_line_and_finished_cells_stay(tmp_path: Path, mark: str) -> None:
    pids, finished = tmp_path / "pids", tmp_path / "run" / "noise-seed-0" / "outcomes.json"
    pids.mkdir()
    rows = dying(folder=pids, times=100, file=finished, waits=True)
    with pytest.raises(EngineError) as caught:
        run(tmp_path / "run", rows, TWO)
    assert re.fullmatch(r"dies-seed-0: its process died each time \(\w+: .+\); .+", str(caught.value))
    assert len(list(pids.iterdir())) == 4
    assert wait_until_gone(mark, seconds=5) == []
    assert finished.exists()
    _, said = run(tmp_path / "run", "defenses={noise: {kind: gaussian_noise, std: 0.5}}", "engine={kind: inline}")
    assert said[1:] == ["none, seed 0: finished before", "noise, seed 0: finished before"]


class Meets(LinearInverse):
    """Waits until the other one runs as well, and says so."""

    me: str
    other: str

    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        Path(self.me).touch()
        deadline = time.monotonic() + 20
        while not (met := Path(self.other).exists()) and time.monotonic() < deadline:
            time.sleep(0.01)
        guess = super().reconstruct(leak, rng)
        return Reconstruction(guess.images, replace(guess.evidence, settings=f"met: {met}"))


def test_one_cell_alone_is_trained_by_all_workers_and_attacked_in_several_processes(tmp_path: Path) -> None:
    one, two = json.dumps(str(tmp_path / "one")), json.dumps(str(tmp_path / "two"))
    kind = f"kind: '{__name__}:Meets'"
    attacks = f"attacks=[{{{kind}, me: {one}, other: {two}}}, {{{kind}, me: {two}, other: {one}}}]"
    found, said = run(tmp_path / "found", TWO, attacks, "defenses={}")
    assert said[1:] == ["none, seed 0"]
    assert [outcome.settings for outcome in found.outcomes] == ["met: True", "met: True"]
    # By now both have been there.
    expected, _ = run(tmp_path / "expected", "engine={kind: inline}", attacks, "defenses={}")
    assert numbers(found) == numbers(expected)
