import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor, nn

from fedsplit.briefing import card
from fedsplit.checks import check_cuts
from fedsplit.defenses.base import Defense
from fedsplit.defenses.composition import Composition
from fedsplit.defenses.dp_sgd import DpSgd
from fedsplit.defenses.gaussian_noise import GaussianNoise
from fedsplit.defenses.none import Undefended
from fedsplit.defenses.nopeek import NoPeek
from fedsplit.errors import EngineError, ScenarioError
from fedsplit.federation.messages import CutGradient
from fedsplit.federation.optimizer import StochasticGradientDescent
from fedsplit.federation.roles import Client
from fedsplit.models.base import Model
from fedsplit.models.lenet import LeNet
from fedsplit.models.linear import Linear
from fedsplit.models.resnet18 import ResNet18
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.records.images import Holding
from tests import tiny
from tests.defenses import plugins
from tests.federation.builders import assert_same, bits, federation, holding, images, joined, plan_of, train

PLACES = [
    (Linear(width=5), "rows"),
    (LeNet(channels=2), "relu2"),
    (LeNet(channels=2), "dense1"),
    (ResNet18(stem="small", norm="group", groups=4), "layer1_block1"),
]
IDS = [f"{model.kind}-{cut}" for model, cut in PLACES]


def alone(**settings: Any) -> DpSgd:
    """The client segment alone, with the batches of any other row."""
    return DpSgd(segments="client", sampling="shuffled", **settings)


UNCLIPPED = alone(clip=1e12, noise_multiplier=0)


def own_rows(count: int = 7) -> Holding:
    rows = holding(images(count, seed=1))
    return Holding(rows.pixels, rows.labels, torch.linspace(0.2, 1, count), rows.rows, rows.watched)


def client_of(
    defense: Defense, model: Model, cut: str, seed: int = 3, rows: Holding | None = None, **more: Any
) -> Client:
    plan = plan_of(**({"model": model, "cut": cut, "defense": defense, "precision": "float64"} | more))
    home = plan.home()
    home.client.train()
    return Client(plan, home, own_rows() if rows is None else rows, {}, Generator().manual_seed(seed))


def stepped(client: Client, scale: float = 1.0) -> tuple[dict[str, Tensor], Tensor]:
    """The gradients after one exchange, and the gradient that came back."""
    crossing = client.send(client.holding)
    back = scale * torch.randn(crossing.smashed.shape, generator=Generator().manual_seed(9), dtype=torch.float64)
    client.backward(CutGradient(back.to(crossing.smashed)))
    return client.gradients, back


def by_hand(client: Client, back: Tensor, clip: float) -> dict[str, Tensor]:
    """The mean of clipped gradients, with a backward pass per sample."""
    parameters = dict(client.segment.named_parameters())
    total = client.holding.weights.double().sum()
    found = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for row, image in enumerate(client.holding.pixels.double()):
        smashed = client.segment(image[None])
        alone = torch.autograd.grad(smashed, list(parameters.values()), back[row : row + 1] * total)
        norm = sum(float(gradient.square().sum()) for gradient in alone) ** 0.5
        for name, gradient in zip(parameters, alone, strict=True):
            found[name] += gradient * min(1, clip / norm) / total
    return found


@pytest.mark.parametrize(("model", "cut"), PLACES, ids=IDS)
@pytest.mark.parametrize("clip", [0.3, 3.0, 30.0, 1e9])
def test_it_is_the_mean_of_gradients_that_a_loop_over_samples_clips(model: Model, cut: str, clip: float) -> None:
    client = client_of(alone(clip=clip, noise_multiplier=0), model, cut)
    found, back = stepped(client)
    assert_same(found, by_hand(client, back, clip))


@pytest.mark.parametrize(("model", "cut"), PLACES, ids=IDS)
def test_a_bound_that_nothing_reaches_and_no_noise_equal_no_defense(model: Model, cut: str) -> None:
    assert_same(stepped(client_of(UNCLIPPED, model, cut))[0], stepped(client_of(Undefended(), model, cut))[0])


@pytest.mark.parametrize("other", [NoPeek(weight=3.0), GaussianNoise(std=0.5), plugins.RandomScale()])
def test_what_others_do_to_the_smashed_data_is_in_the_gradient_that_is_clipped(other: Defense) -> None:
    both = client_of(Composition(members=(other, UNCLIPPED)), LeNet(channels=2), "relu2")
    assert_same(stepped(both)[0], stepped(client_of(other, LeNet(channels=2), "relu2"))[0])


def test_without_a_task_gradient_a_penalty_still_moves_every_parameter_and_so_does_noise() -> None:
    for defense in (Composition(members=(NoPeek(weight=3.0), UNCLIPPED)), alone()):
        found, _ = stepped(client_of(defense, LeNet(channels=2), "relu2"), scale=0.0)
        assert all(bool(value.any()) for value in found.values())


class Silent(Defense):
    def release(self, smashed, rng):
        return smashed.detach()


def test_where_no_gradient_comes_back_there_is_noise_all_the_same() -> None:
    members = (Silent(), plugins.SmallFeatures(weight=0.0), alone(noise_multiplier=0))
    found, _ = stepped(client_of(Composition(members=members), LeNet(channels=2), "relu2"))
    assert len(found) == 4 and not any(bool(value.any()) for value in found.values())
    found, _ = stepped(client_of(Composition(members=(Silent(), alone())), LeNet(channels=2), "relu2"))
    assert len(found) == 4 and all(bool(value.all()) for value in found.values())


@given(st.floats(1e-3, 1e3), st.floats(1e-6, 1e6), st.integers(0, 6))
def test_no_sample_moves_the_gradient_by_more_than_the_bound(clip: float, scale: float, row: int) -> None:
    """Two batches that differ in what came back for one row: the sums are no further apart than two bounds, and no
    further than one where it is nothing for one of them."""
    defense = alone(clip=clip, noise_multiplier=0)
    sums: list[Tensor] = []
    for factor in (0.0, scale, -scale):
        client = client_of(defense, Linear(width=5), "rows")
        crossing = client.send(client.holding)
        back = torch.randn(crossing.smashed.shape, generator=Generator().manual_seed(9), dtype=torch.float64)
        back[row] *= factor
        client.backward(CutGradient(back))
        mean = torch.cat([value.flatten() for value in client.gradients.values()])
        sums.append(mean * client.holding.weights.double().sum())
    nothing, there, opposite = sums
    assert (there - nothing).norm() <= clip * (1 + 1e-9)
    assert (there - opposite).norm() <= 2 * clip * (1 + 1e-9)


@pytest.mark.parametrize(("clip", "multiplier"), [(0.5, 2.0), (3.0, 0.1)])
def test_the_noise_is_gaussian_in_proportion_to_the_bound(clip: float, multiplier: float) -> None:
    model, rows = Linear(width=400), own_rows(30)
    noisy, _ = stepped(client_of(alone(clip=clip, noise_multiplier=multiplier), model, "rows", rows=rows))
    quiet, _ = stepped(client_of(alone(clip=clip, noise_multiplier=0), model, "rows", rows=rows))
    total = rows.weights.double().sum()
    drawn = torch.cat([((noisy[name] - quiet[name]) * total).flatten() for name in noisy]).numpy()
    std = clip * multiplier
    assert len(drawn) == 400 * 9
    assert abs(drawn.mean()) < 4 * std / len(drawn) ** 0.5
    assert drawn.std() == pytest.approx(std, rel=0.04)
    assert scipy.stats.kstest(drawn, "norm", args=(0, std)).pvalue > 0.01


def test_noise_is_that_of_its_stream_alone() -> None:
    state = torch.random.get_rng_state()
    first, again, other = (stepped(client_of(alone(), LeNet(channels=2), "relu2", seed))[0] for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert bits(first) == bits(again)
    assert all(not torch.equal(first[name], other[name]) for name in first)


def test_every_step_has_noise_of_its_own() -> None:
    client = client_of(alone(), Linear(width=5), "rows")
    (first, _), (second, _) = stepped(client), stepped(client)
    assert all(not torch.equal(first[name], second[name]) for name in first)


def test_the_optimiser_takes_the_noisy_gradient() -> None:
    client = client_of(alone(), Linear(width=5), "rows", optimizer=StochasticGradientDescent(learning_rate=0.5))
    before = {name: value.detach().clone() for name, value in client.segment.named_parameters()}
    found, back = stepped(client)
    client.step()
    moved = {name: (before[name] - value.detach()) / 0.5 for name, value in client.segment.named_parameters()}
    assert_same(moved, found)
    quiet = by_hand(client_of(alone(), Linear(width=5), "rows"), back, clip=1.0)
    assert all((found[name] - quiet[name]).abs().max() > 0.01 for name in found)


def test_frozen_blocks_stay(tmp_path: Path) -> None:
    client = client_of(alone(), LeNet(channels=2), "relu2")
    client.segment.get_submodule("conv1").requires_grad_(False)
    found, _ = stepped(client)
    assert set(found) == {"conv2.weight", "conv2.bias"}
    client.segment.requires_grad_(False)
    assert not stepped(client)[0]


def test_samples_in_several_portions_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = stepped(client_of(alone(clip=0.5), LeNet(channels=2), "relu2"))
    monkeypatch.setattr("fedsplit.numerics.sample_gradients._NUMBERS_AT_A_TIME", 1000)
    assert_same(stepped(client_of(alone(clip=0.5), LeNet(channels=2), "relu2"))[0], whole)


def test_half_precision_of_a_step_is_near_enough() -> None:
    settings: dict[str, Any] = {"precision": "bfloat16"}
    found, _ = stepped(client_of(UNCLIPPED, LeNet(channels=2), "dense1", **settings))
    plain, _ = stepped(client_of(Undefended(), LeNet(channels=2), "dense1", **settings))
    for name, value in plain.items():
        torch.testing.assert_close(found[name], value, rtol=0.1, atol=0.05 * float(value.norm()))


# what cannot be


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        (("model={kind: lenet, batch_norm: true}", "cut=pool1"), "norm1 is a BatchNorm2d"),
        (("model={kind: resnet18, stem: small}", "cut=layer1_block1"), "norm1 is a BatchNorm2d"),
        (("model={kind: convolutional, features: [4, 4]}", "cut=relu1"), "relu1.1 is a Dropout"),
        (
            ("defenses.row=[{kind: dp_sgd, segments: client, sampling: shuffled}, {kind: conv_reference}]",),
            "reference1_norm is a BatchNorm2d",
        ),
    ],
)
def test_a_client_that_couples_samples_or_draws_is_refused_in_one_line(changes: tuple[str, ...], found: str) -> None:
    scenario = tiny.scenario(
        "defenses={}", "defenses.row={kind: dp_sgd, segments: client, sampling: shuffled}", *changes
    )
    told = rf"^defenses\.row: '\w+': needs what each sample gives alone, and {re.escape(found)} \(use norm: group or "
    with pytest.raises(ScenarioError, match=told):
        check_cuts(scenario, (1, 8, 8), 10)


@pytest.mark.parametrize(
    "changes",
    [
        ("model={kind: lenet, batch_norm: true}", "cut=conv1"),
        ("model={kind: resnet18, stem: small, norm: group}", "cut=layer1_block1"),
        ("model={kind: convolutional, features: [4, 4], dropout: 0.0}", "cut=relu1"),
        ("defenses.row=[{kind: dp_sgd, segments: client, sampling: shuffled}, {kind: low_rank, rank: 2}]",),
    ],
)
def test_what_takes_each_sample_by_itself_is_not_refused(changes: tuple[str, ...]) -> None:
    check_cuts(
        tiny.scenario("defenses={}", "defenses.row={kind: dp_sgd, segments: client, sampling: shuffled}", *changes),
        (1, 8, 8),
        10,
    )


class Whitening(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passed", torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        self.passed += 1
        return inputs / inputs.norm(dim=0, keepdim=True) if self.passed > 1 else inputs


class Coupled(Model):
    """Counts what passes; from the second batch on it couples samples."""

    def blocks(self, shape, classes):
        return OrderedDict(
            first=nn.Linear(shape[2], 4), coupled=Whitening(), last=nn.Sequential(nn.Flatten(), nn.Linear(32, classes))
        )


def test_what_a_block_keeps_of_its_inputs_is_kept_once() -> None:
    client = client_of(alone(), Coupled(), "coupled")
    client.segment.get_buffer("coupled.passed").fill_(-1)
    stepped(client)
    assert client.segment.get_buffer("coupled.passed") == 0


def test_a_block_of_ones_own_that_couples_samples_is_found_out() -> None:
    client = client_of(alone(), Coupled(), "coupled")
    client.segment.get_buffer("coupled.passed").fill_(1)
    with pytest.raises(EngineError, match="dp_sgd: samples give something else alone than in their batch; use a model"):
        stepped(client)
    stepped(client_of(alone(), Coupled(), "first"))


def test_the_card_says_why_no_epsilon_is_told_and_what_is_not_covered() -> None:
    scenario = tiny.scenario(
        "defenses={}", "defenses.row=[{kind: dp_sgd, segments: client, sampling: shuffled}, {kind: top_k, share: 0.5}]"
    )
    (line,) = [line for line in card(scenario, (1, 8, 8), 10).splitlines() if "epsilon" in line]
    assert line.startswith("row            no epsilon: the server segment trains without noise on the same rows; ")
    assert "what a smashed activation shows of the image that is sent" in line


def test_it_trains(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"model": Linear(width=8), "optimizer": StochasticGradientDescent(learning_rate=0.3)}
    protocol = SplitFedV1(rounds=8, batch_size=10)
    good, same, plain = (
        train(
            tmp_path / str(number),
            plan_of(defense=defense, precision="float64", **settings),
            federation((60,)),
            protocol,
        )
        for number, defense in enumerate((alone(clip=1.0, noise_multiplier=0.5), UNCLIPPED, Undefended()))
    )
    assert good.accuracy > 0.8
    assert_same(joined(same.standing), joined(plain.standing), tolerance=1e-8)
