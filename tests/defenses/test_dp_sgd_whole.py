"""dp_sgd on both sides of the cut, with batches drawn by Poisson sampling, and what is told of it."""

import importlib
import warnings
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from fedsplit.checks import check_cuts
from fedsplit.defenses.base import DEFENSES, Defense
from fedsplit.defenses.composition import Composition
from fedsplit.defenses.dp_sgd import DpSgd
from fedsplit.defenses.gaussian_noise import GaussianNoise
from fedsplit.defenses.low_rank import LowRank
from fedsplit.defenses.negative_label_smoothing import NegativeLabelSmoothing
from fedsplit.defenses.none import Undefended
from fedsplit.defenses.nopeek import NoPeek
from fedsplit.errors import EngineError, ScenarioError
from fedsplit.federation.messages import Crossing, CutGradient
from fedsplit.federation.messages import joined as joined_crossings
from fedsplit.federation.optimizer import StochasticGradientDescent
from fedsplit.federation.plan import Plan
from fedsplit.federation.roles import Client, HonestServer
from fedsplit.models.base import Model
from fedsplit.models.lenet import LeNet
from fedsplit.models.linear import Linear
from fedsplit.protocols.base import Protocol
from fedsplit.protocols.parallel import Parallel
from fedsplit.protocols.sequential import Sequential
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.protocols.splitfed_v2 import SplitFedV2
from fedsplit.records.images import Holding
from fedsplit.records.step import Draws
from fedsplit.report.folder import RunFolder
from fedsplit.report.summary import summarise
from fedsplit.report.table import markdown
from fedsplit.simulate import simulate
from tests import tiny
from tests.contracts.test_defense import NEEDED, defenses
from tests.defenses import plugins
from tests.federation.builders import (
    assert_same,
    bits,
    federation,
    holding,
    images,
    joined,
    plan_of,
    train,
    whole_model,
)
from tests.federation.test_sampling import batches

PLACES = [
    (Linear(width=5), "rows"),
    (LeNet(channels=2), "relu2"),
    (LeNet(channels=2), "dense1"),
]
IDS = [f"{model.kind}-{cut}" for model, cut in PLACES]
PROTOCOLS: list[Protocol] = [
    SplitFedV1(rounds=2, batch_size=2),
    SplitFedV2(rounds=2, batch_size=2),
    Sequential(rounds=2, batch_size=2),
    Parallel(rounds=2, batch_size=2),
    Parallel(rounds=2, batch_size=2, sync="round"),
    Parallel(rounds=2, batch_size=2, sync="never"),
]
NAMES = [f"{protocol.kind} {getattr(protocol, 'sync', '')}".strip() for protocol in PROTOCOLS]
UNCLIPPED = 1e12


def exact(defense: Defense, model: Model = PLACES[0][0], cut: str = "rows", **more: Any) -> Plan:
    return plan_of(**({"model": model, "cut": cut, "defense": defense, "precision": "float64"} | more))


def server_of(plan: Plan, seed: int = 4) -> HonestServer:
    return HonestServer(plan, plan.segments().server.train(), {}, Generator().manual_seed(seed))


def crossing_of(plan: Plan, rows: int = 7, expected: float | None = None) -> Crossing:
    rng = Generator().manual_seed(8)
    smashed = torch.randn((rows, *plan.segments().cut_shape), generator=rng, dtype=torch.float64)
    return Crossing(smashed, torch.arange(rows) % 3, torch.linspace(0.2, 1, rows, dtype=torch.float64), expected)


def served(server: HonestServer, crossing: Crossing) -> dict[str, Tensor]:
    """The server's gradients as it moves."""
    server.answer(crossing)
    server.move()
    return {name: value.grad for name, value in server.segment.named_parameters() if value.grad is not None}


def by_hand(segment: nn.Module, crossing: Crossing, bound: float, mass: float) -> dict[str, Tensor]:
    parameters = dict(segment.named_parameters())
    found = {name: torch.zeros_like(value) for name, value in parameters.items()}
    assert crossing.labels is not None
    for sample, label, weight in zip(crossing.smashed, crossing.labels, crossing.weights, strict=True):
        loss = weight * F.cross_entropy(segment(sample[None]), label[None])
        alone = torch.autograd.grad(loss, list(parameters.values()))
        norm = sum(float(gradient.square().sum()) for gradient in alone) ** 0.5
        for name, gradient in zip(parameters, alone, strict=True):
            found[name] += gradient * min(1, bound / norm) / mass
    return found


@pytest.mark.parametrize("expected", [None, 5.5])
@pytest.mark.parametrize("clip", [0.3, 3.0, 1e9])
@pytest.mark.parametrize(("model", "cut"), PLACES, ids=IDS)
def test_the_server_moves_along_what_a_loop_over_samples_clips(
    model: Model, cut: str, clip: float, expected: float | None
) -> None:
    plan = exact(DpSgd(clip=clip, noise_multiplier=0), model, cut)
    crossing = crossing_of(plan, expected=expected)
    reference = plan.segments().server.train()
    mass = float(crossing.weights.sum()) if expected is None else expected
    assert_same(served(server_of(plan), crossing), by_hand(reference, crossing, clip / sqrt(2), mass))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("clip", [0.5, 1e6])
def test_it_is_the_gradient_that_opacus_gives_the_server(clip: float) -> None:
    plan = exact(DpSgd(clip=clip, noise_multiplier=0), LeNet(channels=2), "relu2")
    crossing = crossing_of(plan, expected=6.0)
    assert crossing.labels is not None
    opacus = importlib.import_module("opacus")
    module = opacus.GradSampleModule(plan.segments().server, loss_reduction="sum")
    optimizer = opacus.optimizers.DPOptimizer(
        torch.optim.SGD(module.parameters(), lr=1.0),
        noise_multiplier=0.0,
        max_grad_norm=clip / sqrt(2),
        expected_batch_size=6,
        loss_reduction="mean",
    )
    losses = F.cross_entropy(module(crossing.smashed), crossing.labels, reduction="none")
    (losses * crossing.weights).sum().backward()
    optimizer.pre_step()
    expected = {name.removeprefix("_module."): value.grad for name, value in module.named_parameters()}
    assert_same(served(server_of(plan), crossing), expected, tolerance=1e-5)


def sums(defense: DpSgd, own: Holding, expected: float, scale: float) -> Tensor:
    """What the rows add on both sides, as one vector. scale: of the smashed data's way through the server."""
    plan = exact(defense)
    home = plan.home()
    home.client.train()
    client, server = Client(plan, home, own, {}, Generator()), server_of(plan)
    with torch.no_grad():
        for value in server.segment.parameters():
            value.mul_(scale)
    crossing = client.send(own, expected)
    answer = server.answer(crossing)
    assert isinstance(answer, CutGradient)
    server.move()
    client.backward(answer)
    gradients = [*client.gradients.values(), *(value.grad for value in server.segment.parameters())]
    return expected * torch.cat([value.flatten() for value in gradients if value is not None])


@settings(max_examples=25)
@given(st.floats(1e-4, 1e2), st.floats(0.1, 10), st.integers(0, 6))
def test_no_row_adds_more_than_the_bound_to_both_sides_together(clip: float, scale: float, row: int) -> None:
    defense, own = DpSgd(clip=clip, noise_multiplier=0), holding(images(7, seed=1))
    without = own.at(torch.tensor([place for place in range(7) if place != row]))
    added = (sums(defense, own, 4.0, scale) - sums(defense, without, 4.0, scale)).norm()
    assert added <= clip * (1 + 1e-9)
    if clip < 1e-2:
        # Where both parts are clipped, no less either: the noise is in proportion to this.
        assert added >= clip * (1 - 1e-6)


@pytest.mark.parametrize(("clip", "multiplier"), [(0.5, 2.0), (3.0, 0.1)])
def test_the_server_has_noise_in_proportion_to_the_whole_bound(clip: float, multiplier: float) -> None:
    drawn: list[Tensor] = []
    for defense in (DpSgd(clip=clip, noise_multiplier=multiplier), DpSgd(clip=clip, noise_multiplier=0)):
        plan = exact(defense, Linear(width=300))
        found = served(server_of(plan), crossing_of(plan, expected=5.0))
        drawn.append(5.0 * torch.cat([value.flatten() for value in found.values()]))
    noise, std = (drawn[0] - drawn[1]).numpy(), clip * multiplier
    assert len(noise) > 5000
    assert noise.std() == pytest.approx(std, rel=0.04)
    assert scipy.stats.kstest(noise, "norm", args=(0, std)).pvalue > 0.01


def test_every_move_of_the_server_has_noise_of_its_own_stream() -> None:
    plan = exact(DpSgd())
    crossing = crossing_of(plan)
    first, again, other = (served(server_of(plan, seed), crossing) for seed in (1, 1, 2))
    assert bits(first) == bits(again)
    assert all(not torch.equal(first[name], other[name]) for name in first)
    server = server_of(plan.model_copy(update={"optimizer": StochasticGradientDescent(learning_rate=1e-30)}), 1)
    one, two = (dict(served(server, crossing)) for _ in range(2))
    assert all(not torch.equal(one[name], two[name]) for name in one)


def test_clients_and_the_copies_of_the_server_beside_them_draw_apart(tmp_path: Path) -> None:
    """Noise that drowns the gradients: the mean of two copies is the noise of either only where they share a stream."""
    plan = exact(DpSgd(noise_multiplier=1e6), optimizer=StochasticGradientDescent(learning_rate=1e-3))
    protocol = SplitFedV1(rounds=1, batch_size=6)
    alone, both = (train(tmp_path / str(len(sizes)), plan, federation(sizes), protocol) for sizes in ((6,), (6, 6)))
    start = whole_model(plan).state_dict()
    for name, value in joined(alone.standing).items():
        ratio = (joined(both.standing)[name] - start[name]).norm() / (value - start[name]).norm()
        assert ratio < 0.95, name


# batches without rows


def test_a_step_without_rows_is_noise_by_what_is_expected() -> None:
    for model, cut in PLACES:
        plan = exact(DpSgd(clip=2.0, noise_multiplier=3.0), model, cut)
        home, none = plan.home(), holding(images(4, seed=0)).at(torch.arange(0))
        home.client.train()
        rng, theirs = Generator().manual_seed(3), Generator().manual_seed(4)
        client, server = Client(plan, home, none, {}, Generator().manual_seed(3)), server_of(plan)
        crossing = client.send(none, expected=5.0)
        answer = server.answer(crossing)
        assert isinstance(answer, CutGradient) and answer.gradient.shape == crossing.smashed.shape
        assert server.losses == [0.0]
        server.move()
        client.backward(answer)
        for segment, stream in ((client.segment, rng), (server.segment, theirs)):
            for value in segment.parameters():
                noise = torch.randn(value.shape, generator=stream, dtype=value.dtype)
                assert value.grad is not None
                torch.testing.assert_close(value.grad, 2.0 * 3.0 * noise / 5.0)


@pytest.mark.parametrize("other", [kind for kind in DEFENSES.shipped if kind not in ("dp_sgd", "composition")])
def test_beside_any_other_defense_a_batch_without_rows_moves_by_noise_alone(other: str) -> None:
    member = defenses.validate_python({"kind": other, **NEEDED.get(other, {})})
    row = Composition(members=(member, DpSgd(segments="client", noise_multiplier=0)))
    plan = exact(row, LeNet(channels=2), "relu2")
    if row.refuses(plan.segments()):
        pytest.skip("cannot be together")
    for rows in (0, 1):
        home = plan.home()
        own = holding(images(4, seed=0)).at(torch.arange(rows))
        client, server = Client(plan, home, own, {}, Generator()), server_of(plan)
        answer = server.answer(client.send(own, expected=2.0))
        assert isinstance(answer, CutGradient)
        client.receive(answer)
        server.move()
        gradients = client.gradients
        assert gradients and all(bool(value.isfinite().all()) for value in gradients.values())
        assert any(bool(value.any()) for value in gradients.values()) == bool(rows)


class FirstRow(Defense):
    def client_penalty(self, step):
        return step.smashed[0].sum()

    def server_penalty(self, step):
        return step.features[-1][1][0].sum()


def test_penalties_are_not_asked_for_where_there_are_no_rows() -> None:
    plan = exact(Composition(members=(FirstRow(), DpSgd())))
    none = holding(images(4, seed=0)).at(torch.arange(0))
    client, server = Client(plan, plan.home(), none, {}, Generator()), server_of(plan)
    answer = server.answer(client.send(none, expected=2.0))
    assert isinstance(answer, CutGradient)
    client.receive(answer)
    server.move()


def test_joined_crossings_expect_the_sum() -> None:
    crossing = crossing_of(exact(DpSgd()), expected=2.5)
    both = joined_crossings((crossing, crossing))
    assert (both.expected, float(both.mass)) == (5.0, 5.0)
    plain = joined_crossings((crossing_of(exact(DpSgd())), crossing_of(exact(DpSgd()))))
    assert plain.expected is None and float(plain.mass) == pytest.approx(2 * float(plain.weights.sum()) / 2)


# whole trainings


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=NAMES)
def test_where_nothing_is_clipped_or_noisy_it_is_ordinary_training(protocol: Protocol, tmp_path: Path) -> None:
    data = federation((7, 5))
    shuffled = DpSgd(clip=UNCLIPPED, noise_multiplier=0, sampling="shuffled")
    found, plain = (
        train(tmp_path / defense.kind, exact(defense), data, protocol)  # pyright: ignore[reportArgumentType]
        for defense in (shuffled, Undefended())
    )
    assert_same(joined(found.standing), joined(plain.standing), tolerance=1e-8)
    # All rows into every batch is one batch per epoch.
    large = protocol.model_copy(update={"batch_size": 7})
    drawn, plain = (
        train(tmp_path / f"large {defense.kind}", exact(defense), data, large)
        for defense in (DpSgd(clip=UNCLIPPED, noise_multiplier=0), Undefended())
    )
    assert_same(joined(drawn.standing), joined(plain.standing), tolerance=1e-8)


@pytest.mark.parametrize("head", [None, "logits"], ids=["two parts", "U-shaped"])
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=NAMES)
def test_every_protocol_bears_batches_without_rows(protocol: Protocol, head: str | None, tmp_path: Path) -> None:
    data, smallest = federation((9, 6)), protocol.model_copy(update={"batch_size": 1})
    defense = DpSgd(segments="client" if head else "both", noise_multiplier=0.1)
    plan = exact(defense, head=head)
    first, again = (train(tmp_path / str(number), plan, data, smallest) for number in range(2))
    assert bits((first.standing, first.ledger)) == bits((again.standing, again.ledger))
    # Some are: else nothing is tried here.
    sizes = [
        len(places)
        for client, rows in enumerate((9, 6))
        for number in (1, 2)
        for places in batches("poisson", rows, 1, plan.seeds("batches", number, client, 0))
    ]
    assert 0 in sizes
    assert first.standing.steps == len(sizes)
    assert all(bool(value.isfinite().all()) for value in joined(first.standing).values())


@pytest.mark.parametrize("sync", ["step", "round"])
def test_clients_that_talk_at_once_divide_by_what_is_expected_of_all_of_them(sync: Any, tmp_path: Path) -> None:
    """Written out as one model on the rows of both: nothing depends on how many were drawn."""
    plan = exact(DpSgd(clip=UNCLIPPED, noise_multiplier=0))
    data, size = federation((7, 5)), 2
    found = train(tmp_path, plan, data, Parallel(rounds=1, batch_size=size, sync=sync))  # pyright: ignore[reportArgumentType]
    drawn = [
        list(batches("poisson", len(own), size, plan.seeds("batches", 1, client, 0)))
        for client, own in enumerate(data.holdings)
    ]
    assert len({len(places) for client in drawn for places in client}) > 1
    model = whole_model(plan)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for places in zip(*(client[:2] for client in drawn), strict=True):
        rows = [own.at(place) for own, place in zip(data.holdings, places, strict=True)]
        losses = [F.cross_entropy(model(one.pixels.double()), one.labels, reduction="sum") for one in rows]
        optimizer.zero_grad()
        (torch.stack(losses).sum() / (2 * size)).backward()
        optimizer.step()
    # The client with more rows goes on alone.
    for place in drawn[0][2:]:
        one = data.holdings[0].at(place)
        optimizer.zero_grad()
        (F.cross_entropy(model(one.pixels.double()), one.labels, reduction="sum") / size).backward()
        optimizer.step()
    if sync == "step":
        assert_same(joined(found.standing), dict(model.state_dict()))
    else:
        assert any(not torch.equal(value, model.state_dict()[name]) for name, value in joined(found.standing).items())


def test_it_trains(tmp_path: Path) -> None:
    protocol = SplitFedV1(rounds=10, batch_size=20)
    plan = exact(
        DpSgd(clip=1.0, noise_multiplier=0.5),
        Linear(width=8),
        optimizer=StochasticGradientDescent(learning_rate=0.5),
    )
    assert train(tmp_path, plan, federation((60,)), protocol).accuracy > 0.8


# what is told


def words(defense: Defense, spoilt: str = "", draws: tuple[Draws, ...] = (Draws(0.1, 30),), **more: Any) -> str:
    return defense.privacy(exact(defense, **more).segments(), draws, spoilt)


UNCOVERED = "; noise on weights says nothing about what a smashed activation shows of the image that is sent"


def by_opacus(noise_multiplier: float, draws: Draws, delta: float) -> float:
    """Step by step, as a training would count."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        accountant = importlib.import_module("opacus.accountants").RDPAccountant()
        for _ in range(draws.steps):
            accountant.step(noise_multiplier=noise_multiplier, sample_rate=draws.rate)
        return accountant.get_epsilon(delta)


def test_the_largest_epsilon_is_told() -> None:
    draws = (Draws(0.1, 30), Draws(0.3, 10), Draws(0.05, 30), Draws(0.9, 0))
    largest = max(by_opacus(1.3, one, 1e-4) for one in draws if one.steps)
    assert by_opacus(1.3, draws[1], 1e-4) != by_opacus(1.3, draws[0], 1e-4)
    told = words(DpSgd(noise_multiplier=1.3, delta=1e-4), draws=draws)
    assert told == f"epsilon {largest:.3g} at delta 0.0001, of the weights alone{UNCOVERED}"


@pytest.mark.parametrize(
    ("defense", "reason"),
    [
        (DpSgd(segments="client"), "the server segment trains without noise on the same rows"),
        (DpSgd(sampling="shuffled"), "batches are shuffled, not drawn by Poisson sampling"),
        (DpSgd(noise_multiplier=0), "there is no noise"),
        (Composition(members=(NoPeek(weight=1.0), DpSgd())), "nopeek in the same row may couple samples, or tell"),
        (Composition(members=(DpSgd(), NegativeLabelSmoothing())), "negative_label_smoothing in the same row may"),
        (Composition(members=(GaussianNoise(std=1.0), DpSgd())), "gaussian_noise in the same row may couple samples"),
        (Composition(members=(DpSgd(), plugins.RandomScale())), "tests.defenses.plugins:RandomScale in the same row"),
    ],
)
def test_why_there_is_no_epsilon(defense: Defense, reason: str) -> None:
    told = words(defense)
    assert told.startswith(f"no epsilon: {reason}")
    assert told.endswith(UNCOVERED)


@pytest.mark.parametrize(
    "other", [LowRank(rank=2), GaussianNoise(std=1.0, active="inference"), GaussianNoise(std=1.0, at=("logits",))]
)
def test_what_only_changes_the_model_or_acts_later_leaves_the_epsilon(other: Defense) -> None:
    assert words(Composition(members=(other, DpSgd()))) == words(DpSgd())
    assert words(DpSgd()).startswith("epsilon ")


def test_what_is_spoilt_or_keeps_something_has_none() -> None:
    assert words(DpSgd(), "somebody looks") == f"no epsilon: somebody looks{UNCOVERED}"
    told = words(DpSgd(), model=LeNet(channels=2, batch_norm=True), cut="conv1")
    assert told.startswith("no epsilon: norm1.running_mean may keep what no noise reaches")
    assert words(Undefended()) == words(Composition(members=(LowRank(rank=2), NoPeek(weight=1.0)))) == ""


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (("model={kind: lenet, batch_norm: true}", "cut=conv1"), "alone, and norm1 is a BatchNorm2d (use norm: group"),
        (("model={kind: convolutional, features: [4, 4]}", "cut=conv1"), "alone, and relu1.1 is a Dropout (use"),
        (
            ("defenses.row=[{kind: dp_sgd}, {kind: mid, beta: 0.1, place: head}]",),
            "alone, and head_code is a GaussianSample (use norm: group or dropout: 0, leave batch_norm or mid out",
        ),
        (
            ("defenses.row.segments=client", "model={kind: lenet, batch_norm: true}", "cut=conv1"),
            "may draw batches of a single row, and norm1 is a BatchNorm2d (use sampling: shuffled)",
        ),
        (("model={kind: lenet}", "cut=conv1", "head=logits"), "a head at the client is neither (use segments: client)"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes: tuple[str, ...], told: str) -> None:
    with pytest.raises(ScenarioError) as found:
        check_cuts(tiny.scenario("defenses={}", "defenses.row={kind: dp_sgd}", *changes), (1, 8, 8), 10)
    assert told in str(found.value) and "\n" not in str(found.value)


def test_without_opacus_it_is_refused_unless_no_epsilon_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedsplit.defenses.dp_sgd.has_accountant", lambda: False)
    with pytest.raises(ScenarioError, match=r"opacus, which is not installed \(pip install 'fedsplit\[privacy\]'\)"):
        check_cuts(tiny.scenario("defenses={}", "defenses.row={kind: dp_sgd}"), (1, 8, 8), 10)
    check_cuts(tiny.scenario("defenses={}", "defenses.row={kind: dp_sgd, segments: client}"), (1, 8, 8), 10)


def test_a_server_that_couples_samples_is_found_out() -> None:
    class Mean(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs - inputs.mean(dim=0)

    plan = exact(DpSgd())
    server = server_of(plan)
    server.segment.add_module("logits", nn.Sequential(Mean(), server.segment.get_submodule("logits")))
    server.answer(crossing_of(plan))
    with pytest.raises(EngineError, match="samples give something else alone than in their batch"):
        server.move()


def test_a_run_tells_it_by_who_looks(tmp_path: Path) -> None:
    scenario = tiny.scenario(
        "defenses={private: {kind: dp_sgd, noise_multiplier: 2.0}}",
        "threats=[{kind: split_network}, {kind: curious_server}]",
        "protocol={kind: splitfed_v1, rounds: 3, batch_size: 16, local_epochs: 2, participation: 0.5}",
    )
    run = simulate(scenario, tmp_path, lambda _: None)
    told = {(outcome.defense, outcome.threat): outcome.privacy for outcome in run.outcomes}
    # 60 rows each; of four batches per epoch, and one client in each of three rounds.
    seeds = plan_of(seed=0).seeds
    drawn = [int(torch.randperm(2, generator=seeds("participants", number))[0]) for number in (1, 2, 3)]
    most = max(drawn.count(client) for client in range(2))
    largest = by_opacus(2.0, Draws(16 / 60, 8 * most), 1e-5)
    assert told["private", "split_network"] == f"epsilon {largest:.3g} at delta 1e-05, of the weights alone{UNCOVERED}"
    assert told["private", "curious_server"].startswith("no epsilon: the adversary of curious_server sees what crosses")
    assert told["none", "split_network"] == told["none", "curious_server"] == ""
    table = markdown(summarise(run, RunFolder(tmp_path).exhibits()))
    assert f"- private under split_network: epsilon {largest:.3g} at delta 1e-05" in table
    assert "- private under curious_server: no epsilon: the adversary" in table
