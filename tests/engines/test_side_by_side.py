"""Cells side by side as Ray tasks: the same outcomes as one after the other, in one terminal view."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Generator, nn

from fedsplit.attacks.linear_inverse import LinearInverse
from fedsplit.defenses.base import Defense
from fedsplit.errors import EngineError
from fedsplit.flower.session import close_session
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


class Watcher:
    """Notes all loops, whenever they run."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.open = 0

    def started(self, description: str, total: int) -> object:
        self.begun.append(description)
        self.open += 1
        return description

    def advanced(self, loop: object) -> None:
        assert loop in self.begun

    def finished(self, loop: object) -> None:
        assert loop in self.begun
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
    assert {f"{row}-seed-{seed}: training" for row in ("none", "noise", "rank") for seed in (0, 1)} <= set(
        watcher.begun
    )
    assert watcher.open == 0
    for cell in RunFolder(tmp_path / "found").cells():
        other = tmp_path / "expected" / cell.name
        assert (cell.path / "exhibits.safetensors").read_bytes() == (other / "exhibits.safetensors").read_bytes()


def test_a_cell_that_fails_is_one_line_and_finished_cells_stay(tmp_path: Path, mark: str) -> None:
    finished = json.dumps(str(tmp_path / "none-seed-0" / "outcomes.json"))
    broken = f"{{kind: '{__name__}:Collapses', file: {finished}}}"
    with pytest.raises(EngineError) as caught:
        run(tmp_path, f"defenses={{broken: {broken}, noise: {{kind: gaussian_noise, std: 0.5}}}}", TWO)
    assert str(caught.value).startswith("client 0, round 1: training failed (ValueError: fell over); ")
    assert wait_until_gone(mark, seconds=5) == []
    _, said = run(tmp_path, "defenses={noise: {kind: gaussian_noise, std: 0.5}}", TWO)
    assert said[1] == "none, seed 0: finished before"
    close_session()


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
