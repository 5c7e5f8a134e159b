from pathlib import Path
from typing import Any

import pytest
import scipy.stats
import torch
from torch import Generator, Tensor

from fedsplit.defenses.gaussian_noise import GaussianNoise
from fedsplit.federation.evaluation import evaluate
from fedsplit.federation.optimizer import Adam
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from tests.federation.builders import assert_same, federation, images, joined, plan_of, train


def noise(std: float, smashed: Tensor, seed: int = 0, *, relative: bool = False) -> Tensor:
    return GaussianNoise(std=std, relative=relative).release(smashed, Generator().manual_seed(seed)) - smashed


@pytest.mark.parametrize("std", [0.1, 3.0])
def test_the_noise_is_gaussian_with_this_deviation(std: float) -> None:
    drawn = noise(std, torch.zeros(100, 4, 5, 10, dtype=torch.float64)).flatten().numpy()
    assert scipy.stats.kstest(drawn, "norm", args=(0, std)).pvalue > 0.01
    assert drawn.std() == pytest.approx(std, rel=0.02)
    assert scipy.stats.kurtosis(drawn) == pytest.approx(0, abs=0.15)


def test_activations_and_samples_are_disturbed_independently() -> None:
    drawn = noise(1.0, torch.zeros(4000, 5, dtype=torch.float64))
    assert (torch.corrcoef(drawn.T) - torch.eye(5)).abs().max() < 0.06
    assert torch.corrcoef(torch.stack([drawn[:-1, 0], drawn[1:, 0]]))[0, 1].abs() < 0.06


def test_relative_noise_follows_each_samples_own_spread() -> None:
    scales = torch.tensor([0.01, 1.0, 50.0], dtype=torch.float64).view(3, 1, 1)
    smashed = 7 + scales * torch.randn(3, 200, 200, generator=Generator().manual_seed(1), dtype=torch.float64)
    drawn = noise(0.5, smashed, relative=True).flatten(1)
    expected = 0.5 * smashed.flatten(1).numpy().std(axis=1)
    assert drawn.std(dim=1).numpy() == pytest.approx(expected, rel=0.02)


def test_relative_noise_of_a_sample_does_not_tell_of_the_others() -> None:
    smashed = torch.rand(3, 8, dtype=torch.float64)
    changed = smashed.clone()
    changed[1:] *= 100
    torch.testing.assert_close(noise(1.0, smashed, relative=True)[0], noise(1.0, changed, relative=True)[0])


@pytest.mark.parametrize("relative", [False, True])
def test_the_gradient_passes_as_if_nothing_was_added(relative: bool) -> None:
    smashed = torch.rand(3, 8, requires_grad=True)
    defense = GaussianNoise(std=1.0, relative=relative)
    (gradient,) = torch.autograd.grad(defense.release(smashed, Generator()).sum(), smashed)
    assert torch.equal(gradient, torch.ones(3, 8))


def test_vanishing_noise_equals_no_defense(tmp_path: Path) -> None:
    data = federation()
    tiny = train(tmp_path / "tiny", plan_of(defense=GaussianNoise(std=1e-15), precision="float64"), data)
    none = train(tmp_path / "none", plan_of(precision="float64"), data)
    assert_same(joined(tiny.standing), joined(none.standing))


@pytest.mark.parametrize(("active", "spoiled"), [("training", False), ("inference", True), ("both", True)])
def test_accuracy_is_that_of_the_model_as_defended_at_inference(active: Any, spoiled: bool, tmp_path: Path) -> None:
    plan = plan_of(defense=GaussianNoise(std=0.1, active=active), optimizer=Adam(learning_rate=0.01))
    trained = train(tmp_path, plan, federation((40, 40)), SplitFedV1(rounds=6, batch_size=10))
    spoiling = plan.model_copy(update={"defense": GaussianNoise(std=1000.0, active=active)})
    found = evaluate(spoiling, trained.standing.deployed, trained.standing.server, images(90, seed=99)).accuracy
    assert (found < 0.6) == spoiled
    assert (found > 0.8) != spoiled
