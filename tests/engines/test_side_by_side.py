"""Cells side by side as Ray tasks: the same outcomes as one after the other, in one terminal view."""

from pathlib import Path
from typing import Any

import pytest
from torch import Generator, nn

from fedsplit.defenses.base import Defense
from fedsplit.errors import EngineError
from fedsplit.flower.session import close_session
from fedsplit.progress import observed_by
from fedsplit.records.outcome import Outcomes
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
    """Fails in training."""

    def after_step(self, segment: nn.Module, step: ClientStep, rng: Generator) -> None:
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
    assert said[1:] == [
        "2 cells side by side: none-seed-0, none-seed-1",
        "4 cells side by side: noise-seed-0, rank-seed-0, noise-seed-1, rank-seed-1",
    ]
    assert {f"{row}-seed-{seed}: training" for row in ("none", "noise", "rank") for seed in (0, 1)} <= set(
        watcher.begun
    )
    assert watcher.open == 0
    for cell in RunFolder(tmp_path / "found").cells():
        other = tmp_path / "expected" / cell.name
        assert (cell.path / "exhibits.safetensors").read_bytes() == (other / "exhibits.safetensors").read_bytes()


def test_a_cell_that_fails_is_one_line_and_finished_cells_stay(tmp_path: Path, mark: str) -> None:
    broken = f"defenses={{noise: {{kind: gaussian_noise, std: 0.5}}, broken: {{kind: '{__name__}:Collapses'}}}}"
    with pytest.raises(EngineError) as caught:
        run(tmp_path, broken, TWO, "seeds=[0, 1]")
    assert str(caught.value).startswith("client 0, round 1: training failed (ValueError: fell over); ")
    assert wait_until_gone(mark, seconds=5) == []
    _, said = run(tmp_path, "defenses={noise: {kind: gaussian_noise, std: 0.5}}", TWO, "seeds=[0, 1]")
    assert said[1:3] == [f"none, seed {seed}: finished before" for seed in (0, 1)]
    close_session()


def test_one_cell_alone_is_trained_by_all_workers(tmp_path: Path) -> None:
    found, said = run(tmp_path / "found", TWO)
    assert said[1:] == ["none, seed 0", "noise, seed 0"]
    expected, _ = run(tmp_path / "expected", "engine={kind: inline}")
    assert numbers(found) == numbers(expected)
