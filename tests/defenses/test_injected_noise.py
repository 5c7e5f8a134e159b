"""Noise behind blocks of the model, once training is over."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator

from fedsplit.defenses.base import Defense
from fedsplit.defenses.composition import Composition
from fedsplit.defenses.gaussian_noise import GaussianNoise
from fedsplit.defenses.laplace_noise import LaplaceNoise
from fedsplit.errors import ScenarioError
from fedsplit.federation.exposure import Observation, expose
from fedsplit.federation.ledger import Recording
from fedsplit.federation.plan import Plan
from fedsplit.federation.trained import Trained
from fedsplit.models.lenet import LeNet
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.records.leak import Leak
from tests.federation.builders import assert_same, auxiliary, federation, plan_of, train

MODEL = LeNet(channels=2)
PLACES = {"cut": ("pool1",), "before the cut": ("conv1",), "both": ("relu1", "pool1"), "behind it": ("dense1",)}


def noisy(*at: str) -> list[Defense]:
    return [GaussianNoise(std=0.7, at=at), LaplaceNoise(scale=0.7 / 2**0.5, at=at)]


def plan_with(defense: Defense | None, **settings: Any) -> Plan:
    return plan_of(model=MODEL, cut="pool1", **({} if defense is None else {"defense": defense}), **settings)


def trained(folder: Path, plan: Plan) -> Trained:
    return train(folder, plan, federation(), SplitFedV1(rounds=1, batch_size=6), Recording(inference=(1,)))


def leak(plan: Plan, result: Trained, kind: Any = "inference", repeats: int = 1) -> Leak:
    return expose(plan, result, federation(), auxiliary(), Observation(kind, 1, True, repeats=repeats)).leak


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("index", [0, 1], ids=["gaussian", "laplace"])
def test_training_knows_nothing_of_it(place: str, index: int, tmp_path: Path) -> None:
    defended, bare = (
        trained(tmp_path / name, plan_with(defense))
        for name, defense in (("defended", noisy(*PLACES[place])[index]), ("bare", None))
    )
    assert_same(defended.standing.client, bare.standing.client, 0.0)
    assert_same(defended.standing.server, bare.standing.server, 0.0)


@pytest.mark.parametrize("place", ["cut", "before the cut", "both"])
@pytest.mark.parametrize("index", [0, 1], ids=["gaussian", "laplace"])
def test_what_crosses_is_noisy_afresh_for_every_question_and_the_same_in_every_run(
    place: str, index: int, tmp_path: Path
) -> None:
    plan = plan_with(noisy(*PLACES[place])[index])
    result = trained(tmp_path, plan)
    seen = leak(plan, result)
    assert seen.client_queries is not None and seen.smashed is not None
    state = torch.random.get_rng_state()
    once, again, other = (seen.client_queries(seen.auxiliary.images, Generator().manual_seed(n)) for n in (1, 1, 2))
    assert torch.equal(once, again) and not torch.equal(once, other)
    assert torch.equal(torch.random.get_rng_state(), state)
    repeated = leak(plan, result).smashed
    assert repeated is not None and torch.equal(seen.smashed, repeated)


def test_behind_the_cuts_own_block_it_is_the_noise_of_the_plain_defense(tmp_path: Path) -> None:
    plan = plan_with(GaussianNoise(std=0.7, at=("pool1",)))
    seen = leak(plan, trained(tmp_path / "noisy", plan))
    clear = leak(plan_with(None), trained(tmp_path / "clear", plan_with(None)))
    assert seen.smashed is not None and clear.smashed is not None
    noise = (seen.smashed - clear.smashed).flatten()
    assert noise.std().item() == pytest.approx(0.7, rel=0.05) and abs(noise.mean().item()) < 0.05


def test_answers_behind_the_cut_are_noisy_and_what_crosses_is_not(tmp_path: Path) -> None:
    plan, bare = plan_with(GaussianNoise(std=0.7, at=("dense1",))), plan_with(None)
    result, other = trained(tmp_path / "noisy", plan), trained(tmp_path / "bare", bare)
    pairs = {
        kind: (leak(plan, result, kind).smashed, leak(bare, other, kind).smashed) for kind in ("inference", "hidden")
    }
    assert torch.equal(*pairs["inference"])
    assert not torch.equal(*pairs["hidden"])


def test_a_training_leak_knows_nothing_of_it(tmp_path: Path) -> None:
    plan, bare = plan_with(GaussianNoise(std=0.7, at=("pool1",))), plan_with(None)
    first, second = (
        train(tmp_path / name, one, federation(), SplitFedV1(rounds=1, batch_size=6), Recording(training=(1,)))
        for name, one in (("noisy", plan), ("bare", bare))
    )
    noisy_, clear = leak(plan, first, "training"), leak(bare, second, "training")
    assert noisy_.auxiliary_pairs is not None and clear.auxiliary_pairs is not None
    assert torch.equal(noisy_.auxiliary_pairs.smashed, clear.auxiliary_pairs.smashed)


def test_behind_the_last_block_it_is_a_part_of_that(tmp_path: Path) -> None:
    plan, bare = plan_with(GaussianNoise(std=0.7, at=("dense1", "logits"))), plan_with(None)
    last = list(plan.segments().whole.names)[-1]
    assert last == list(bare.segments().whole.names)[-1] == "logits"
    alone = plan_with(GaussianNoise(std=0.7, at=("logits",)))
    result, other = trained(tmp_path / "noisy", alone), trained(tmp_path / "bare", bare)
    hidden, answers = (
        [leak(one, seen, kind).smashed for one, seen in ((alone, result), (bare, other))]
        for kind in ("hidden", "answers")
    )
    assert torch.equal(*hidden)  # pyright: ignore[reportArgumentType]
    assert not torch.equal(*answers)  # pyright: ignore[reportArgumentType]


def test_many_answers_average_it_away(tmp_path: Path) -> None:
    plan = plan_with(GaussianNoise(std=0.7, at=("conv1",)))
    result = trained(tmp_path, plan)
    still = leak(plan_with(None), trained(tmp_path / "bare", plan_with(None))).smashed
    once, often = leak(plan, result).smashed, leak(plan, result, repeats=16).smashed
    assert still is not None and once is not None and often is not None
    # Behind a ReLU and a maximum noise has a mean, which stays; what varies falls as one over the number of answers.
    twice = leak(plan, result, repeats=17).smashed
    assert twice is not None
    assert (often - twice).square().mean() < 0.1 * (once - twice).square().mean()


def test_who_holds_the_weights_leaves_it_out(tmp_path: Path) -> None:
    plan = plan_with(GaussianNoise(std=0.7, at=("conv1", "dense1")))
    seen = leak(plan, trained(tmp_path, plan))
    assert seen.client_weights is not None and seen.server_segments is not None
    state = torch.random.get_rng_state()
    smashed = [seen.client_weights.broadcast(seen.auxiliary.images) for _ in range(2)]
    assert torch.equal(*smashed)
    assert torch.equal(*(seen.server_segments[-1](one) for one in smashed))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_accuracy_is_that_of_the_noisy_model(tmp_path: Path) -> None:
    loud = trained(tmp_path / "loud", plan_with(GaussianNoise(std=1e4, at=("dense2",))))
    again = trained(tmp_path / "again", plan_with(GaussianNoise(std=1e4, at=("dense2",))))
    assert loud.accuracy == again.accuracy != trained(tmp_path / "bare", plan_with(None)).accuracy


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ScenarioError, match=r"gaussian_noise\.at: 'dense9': no block of this name; use names of conv1"):
        plan_with(GaussianNoise(std=0.7, at=("dense9",))).segments()
    twice = Composition(members=(GaussianNoise(std=0.7, at=("conv1",)), LaplaceNoise(scale=0.7, at=("conv1",))))
    with pytest.raises(
        ScenarioError, match=r"laplace_noise\.at: 'conv1': is disturbed by two defenses of one row; let"
    ):
        plan_with(twice).segments()
    with pytest.raises(ValueError, match="`active` has no effect"):
        GaussianNoise(std=0.7, at=("conv1",), active="training")
