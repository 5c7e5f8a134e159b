from pathlib import Path

import pytest
import torch

from fedsplit.defenses.gaussian_noise import GaussianNoise
from fedsplit.engines.base import ENGINES
from fedsplit.engines.inline import Inline
from fedsplit.errors import EngineError
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.ledger import Recording
from fedsplit.federation.optimizer import Adam, StochasticGradientDescent
from fedsplit.models.linear import Linear
from fedsplit.progress import observed_by
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from tests.defenses import plugins
from tests.federation.builders import bits, federation, holding, images, plan_of, train
from tests.test_progress import Notebook

RECORDING = Recording(training=(1,), inference=(2,))


class BreaksOnMark(plugins.Shift):
    """Falls over in training where an image is brighter than any honest one."""

    def after_step(self, segment, step, rng):
        if bool((step.images > 1).any()):
            raise ValueError("a plug-in\nfell over")


class BreaksOnAugment(plugins.Shift):
    def augment(self, data, public, model, rng):
        if bool((data.pixels > 1).any()):
            raise LookupError("no generator")
        return data


def marked(client: int):
    data = federation()
    data.holdings[client].pixels[0] = 2.0
    return data


def failure(cell: Path, defense, data) -> str:
    with pytest.raises(EngineError) as caught:
        train(cell, plan_of(defense=defense), data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_it_takes_protocols_of_any_grain() -> None:
    assert frozenset({"round", "step"}) == Inline.grains
    assert "inline" in ENGINES.shipped


def test_the_same_federation_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    plan = plan_of(defense=GaussianNoise(std=0.1), optimizer=Adam(state="keep"))
    torch.manual_seed(1)
    first = train(tmp_path / "first", plan, federation(), recording=RECORDING)
    torch.manual_seed(2)
    second = train(tmp_path / "second", plan, federation(), recording=RECORDING)
    assert bits((first.standing, first.ledger, first.accuracy)) == bits(
        (second.standing, second.ledger, second.accuracy)
    )


def test_another_seed_is_another_federation(tmp_path: Path) -> None:
    first, second = (train(tmp_path / str(seed), plan_of(seed=seed), federation()) for seed in (0, 1))
    assert first.standing.losses != second.standing.losses


def test_nothing_outside_is_touched(tmp_path: Path) -> None:
    data = federation()
    before, state, threads = bits(data), torch.random.get_rng_state(), torch.get_num_threads()
    train(tmp_path, plan_of(defense=plugins.MadeUp(rows=2, weight=1.0), threads=threads + 1), data, recording=RECORDING)
    assert bits(data) == before
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_training_runs_with_the_plans_number_of_threads(tmp_path: Path) -> None:
    seen: set[int] = set()

    class Counts(plugins.Shift):
        def after_step(self, segment, step, rng):
            seen.add(torch.get_num_threads())

    wanted = torch.get_num_threads() + 1
    train(tmp_path, plan_of(defense=Counts(by=0.0), threads=wanted), federation())
    assert seen == {wanted}


def test_the_model_learns(tmp_path: Path) -> None:
    plan = plan_of(model=Linear(width=16), optimizer=Adam(learning_rate=0.01))
    trained = train(tmp_path, plan, federation((40, 30, 50)), SplitFedV1(rounds=6, batch_size=10))
    assert trained.accuracy > 0.9
    assert trained.standing.losses[-1] < 0.5 * trained.standing.losses[0]
    assert trained.standing.seconds > 0


@pytest.mark.parametrize("client", [0, 2])
def test_a_client_that_fails_is_named_with_round_and_cause(client: int, tmp_path: Path) -> None:
    text = failure(tmp_path, BreaksOnMark(by=0.0), marked(client))
    assert text.startswith(f"client {client}, round 1: training failed (ValueError: a plug-in fell over); ")


def test_a_client_that_fails_before_its_first_step_is_named_too(tmp_path: Path) -> None:
    text = failure(tmp_path, BreaksOnAugment(by=0.0), marked(1))
    assert text.startswith("client 1, round 1: training failed (LookupError: no generator); ")


def test_a_loss_that_is_not_finite_is_told_with_client_and_round(tmp_path: Path) -> None:
    data = federation()
    data.holdings[1].pixels[0] = float("nan")
    text = failure(tmp_path, plugins.Shift(by=0.0), data)
    assert text == "client 1, round 1: the loss is no longer finite; lower optimizer.learning_rate"


def test_a_training_that_diverges_is_stopped(tmp_path: Path) -> None:
    plan = plan_of(optimizer=StochasticGradientDescent(learning_rate=1e20))
    with pytest.raises(EngineError, match="no longer finite"):
        train(tmp_path, plan, federation())


def test_rounds_before_a_failure_are_kept(tmp_path: Path) -> None:
    class BreaksLater(plugins.Shift):
        def after_step(self, segment, step, rng):
            if Checkpoint(tmp_path, "this federation").load() is not None:
                raise ValueError("fell over")

    assert failure(tmp_path, BreaksLater(by=0.0), federation()).startswith("client 0, round 2: ")
    found = Checkpoint(tmp_path, "this federation").load()
    assert found is not None
    assert found[0].round == 1


def test_every_round_is_shown(tmp_path: Path) -> None:
    notebook = Notebook()
    with observed_by(notebook):
        train(tmp_path, plan_of(), federation())
    assert notebook.lines == ["training of 2", "training +1", "training +1", "training over"]


def test_one_client_with_one_row_is_no_obstacle(tmp_path: Path) -> None:
    data = federation((1,), watched=1)
    assert len(holding(images(1, seed=0))) == 1
    assert train(tmp_path, plan_of(), data).standing.steps == 2
