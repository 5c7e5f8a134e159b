import re
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Generator, Tensor
from torch.distributions import Normal, kl_divergence

from fedsplit.checks import check_cuts
from fedsplit.defenses.composition import Composition
from fedsplit.defenses.gaussian_noise import GaussianNoise
from fedsplit.defenses.low_rank import LowRank
from fedsplit.defenses.mid import Mid
from fedsplit.errors import ScenarioError
from fedsplit.federation.evaluation import evaluate
from fedsplit.federation.exposure import Observation, expose
from fedsplit.federation.ledger import Recording
from fedsplit.federation.messages import CutGradient
from fedsplit.federation.optimizer import Adam
from fedsplit.federation.plan import Plan
from fedsplit.federation.roles import Client
from fedsplit.models.lenet import LeNet
from fedsplit.models.linear import Linear
from fedsplit.numerics.gaussian_divergence import divergence_from_standard
from fedsplit.protocols.parallel import Parallel
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.records.leak import Leak, LeakKind
from fedsplit.records.step import ServerStep
from tests import tiny
from tests.federation.builders import (
    auxiliary,
    bits,
    federation,
    first_task,
    holding,
    images,
    local_round,
    plan_of,
    train,
    whole_model,
)

PLACES = [(Linear(width=5), "rows"), (LeNet(channels=2, batch_norm=True), "norm1"), (LeNet(channels=2), "dense1")]
IDS = [f"{model.kind}-{cut}" for model, cut in PLACES]
QUICK = Adam(learning_rate=0.01)


def exposed(cell: Path, plan: Plan, kind: LeakKind, repeats: int = 1) -> Leak:
    data = federation()
    trained = train(cell, plan, data, recording=Recording(training=(2,), inference=(2,)))
    return expose(plan, trained, data, auxiliary(), Observation(kind, 2, True, repeats=repeats)).leak


def asked(leak: Leak, own: Tensor, seed: int) -> Tensor:
    assert leak.client_queries is not None
    return leak.client_queries(own, Generator().manual_seed(seed))


@pytest.mark.parametrize(("model", "cut"), PLACES, ids=IDS)
def test_the_blocks_lie_about_the_cut_or_before_the_last_one_and_leave_the_others_as_they_were(model, cut: str) -> None:
    plain = plan_of(model=model, cut=cut)
    begun, uncut = whole_model(plain).state_dict(), plain.segments()
    at_cut = plan_of(model=model, cut=cut, defense=Mid(beta=0.1, features=3)).segments()
    before_head = plan_of(model=model, cut=cut, defense=Mid(beta=0.1, place="head")).segments()
    assert at_cut.client.names == (*uncut.client.names, "cut_moments", "cut_code")
    assert at_cut.server.names == ("cut_expansion", *uncut.server.names)
    assert at_cut.cut_shape == (6,)
    assert before_head.client.names == uncut.client.names
    bottleneck = ("head_moments", "head_code", "head_expansion")
    assert before_head.server.names == (*uncut.server.names[:-1], *bottleneck, uncut.server.names[-1])
    for segments in (at_cut, before_head):
        found = segments.whole.state_dict()
        assert set(begun) < set(found)
        assert all(torch.equal(value, found[name]) for name, value in begun.items())
        outputs = dict(segments.whole.features(images(4, seed=0).pixels))
        expanded = next(name for name in outputs if name.endswith("_expansion"))
        before = list(outputs)[list(outputs).index(expanded) - 3]
        assert outputs[expanded].shape == outputs[before].shape


def test_by_default_the_code_has_half_of_what_the_features_have() -> None:
    assert (
        plan_of(defense=Mid(beta=0.1)).segments().cut_shape
        == plan_of().segments().client(torch.rand(1, 1, 8, 8)).flatten().shape
    )
    head = dict(plan_of(defense=Mid(beta=0.1, place="head")).segments().server.named_children())["head_moments"]
    # Five features before the head.
    assert head(torch.rand(3, 5)).shape == (3, 2 * 2)


@pytest.mark.parametrize(("model", "cut"), PLACES, ids=IDS)
def test_the_price_is_the_divergence_of_the_code_from_a_standard_gaussian(model, cut: str) -> None:
    plan = plan_of(model=model, cut=cut, defense=Mid(beta=0.3), precision="float64")
    client = Client(plan, plan.home(), holding(images(8, seed=1)), {}, Generator().manual_seed(0))
    client.send(client.holding)
    assert client._step is not None
    mean, deviation = dict(client._step.features)["cut_moments"].chunk(2, dim=1)
    expected = 0.3 * kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).sum(dim=1).mean()
    torch.testing.assert_close(plan.defense.client_penalty(client._step), expected, rtol=1e-5, atol=1e-8)


def test_before_the_head_the_server_pays_and_needs_no_label_for_it() -> None:
    plan = plan_of(defense=Mid(beta=0.3, place="head"), precision="float64")
    segments = plan.segments()
    features = segments.server.features(segments.client(images(8, seed=1).pixels.double()).detach())
    mean, deviation = dict(features)["head_moments"].chunk(2, dim=1)
    price = plan.defense.server_penalty(ServerStep(features, None, None))
    expected = 0.3 * kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).sum(dim=1).mean()
    torch.testing.assert_close(price, expected, rtol=1e-5, atol=1e-8)
    price.backward()
    moved = {name for name, value in segments.server.named_parameters() if value.grad is not None and value.grad.any()}
    assert moved == {"hidden.1.weight", "hidden.1.bias", "head_moments.map.weight", "head_moments.map.bias"}


def test_alone_it_moves_every_parameter_of_the_client() -> None:
    plan = plan_of(model=LeNet(channels=2), cut="relu2", defense=Mid(beta=1.0), precision="float64")
    client = Client(plan, plan.home(), holding(images(8, seed=1)), {}, Generator().manual_seed(0))
    before = {name: value.clone() for name, value in client.segment.state_dict().items()}
    crossing = client.send(client.holding)
    client.receive(CutGradient(torch.zeros_like(crossing.smashed)))
    assert {name for name, value in client.segment.state_dict().items() if not torch.equal(before[name], value)} == (
        set(before)
    )


def test_the_gradient_at_the_cut_is_that_of_the_noise_that_was_sent() -> None:
    plan = plan_of(defense=Mid(beta=1e-12), precision="float64")
    client = Client(plan, plan.home(), holding(images(8, seed=1)), {}, Generator().manual_seed(7))
    crossing = client.send(client.holding)
    gradient = torch.randn(crossing.smashed.shape, generator=Generator().manual_seed(1), dtype=torch.float64)
    client.backward(CutGradient(gradient))
    found = client.gradients

    segment = plan.segments().client
    mean, deviation = dict(segment.features(images(8, seed=1).pixels.double()))["cut_moments"].chunk(2, dim=1)
    noise = torch.randn(mean.shape, generator=Generator().manual_seed(7), dtype=torch.float64)
    code = mean + deviation * noise
    assert torch.equal(crossing.smashed[:, : code.shape[1]], code)
    assert not crossing.smashed[:, code.shape[1] :].any()
    (code * gradient[:, : code.shape[1]]).sum().backward()
    for name, parameter in segment.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("model", [Linear(width=6), LeNet(channels=2)], ids=lambda model: model.kind)
def test_a_higher_price_leaves_a_smaller_divergence(model, tmp_path: Path) -> None:
    def divergence(beta: float) -> float:
        cut = "rows" if model.kind == "linear" else "pool1"
        plan = plan_of(model=model, cut=cut, defense=Mid(beta=beta, features=4), optimizer=QUICK)
        standing = train(tmp_path / str(beta), plan, federation(), SplitFedV1(rounds=10, batch_size=7)).standing
        segment = plan.prepare(plan.segments().client, standing.client, training=False)
        with torch.no_grad():
            moments = dict(segment.features(images(60, seed=50).pixels))["cut_moments"]
        return float(divergence_from_standard(*moments.chunk(2, dim=1)).mean())

    none, little, much = (divergence(beta) for beta in (1e-9, 1e-2, 1.0))
    assert none > 1.5 * little > 1.5 * 1.5 * much


@pytest.mark.parametrize("place", ["cut", "head"])
@pytest.mark.parametrize("head", [None, "logits"])
@pytest.mark.parametrize("protocol", [SplitFedV1, Parallel], ids=lambda protocol: protocol.__name__)
def test_a_federation_learns_with_it(place: Any, head: str | None, protocol: Any, tmp_path: Path) -> None:
    plan = plan_of(model=Linear(width=12), head=head, defense=Mid(beta=1e-3, place=place), optimizer=QUICK)
    data, schedule = federation((40, 30)), protocol(rounds=12, batch_size=10)
    trained = train(tmp_path / "one", plan, data, schedule)
    assert trained.accuracy > 0.9
    torch.rand(3)
    again = train(tmp_path / "two", plan, data, schedule)
    assert bits(again.standing) == bits(trained.standing)
    assert again.accuracy == trained.accuracy


@pytest.mark.parametrize(("place", "kind"), [("cut", "inference"), ("head", "hidden"), ("head", "answers")])
def test_every_question_is_answered_with_fresh_noise_of_its_own_stream(
    place: Any, kind: LeakKind, tmp_path: Path
) -> None:
    leak = exposed(tmp_path, plan_of(defense=Mid(beta=0.1, place=place)), kind)
    own = images(20, seed=3).pixels
    state = torch.random.get_rng_state()
    first = asked(leak, own, 0)
    torch.rand(7)
    assert torch.equal(asked(leak, own, 0), first)
    assert not torch.equal(asked(leak, own, 1), first)
    assert leak.client_queries is not None
    rng = Generator().manual_seed(0)
    assert torch.equal(leak.client_queries(own, rng), first)
    assert not torch.equal(leak.client_queries(own, rng), first)
    torch.random.set_rng_state(state)


@pytest.mark.parametrize(("place", "kind"), [("cut", "inference"), ("head", "hidden")])
def test_the_mean_of_answers_has_less_noise(place: Any, kind: LeakKind, tmp_path: Path) -> None:
    plan, own = plan_of(defense=Mid(beta=1.0, place=place)), images(20, seed=3).pixels
    spread = [
        torch.stack([asked(exposed(tmp_path, plan, kind, repeats), own, seed) for seed in range(6)]).var(dim=0).mean()
        for repeats in (1, 64)
    ]
    assert 40 < spread[0] / spread[1] < 100


def test_the_weights_of_the_client_give_the_mean_of_what_it_answers(tmp_path: Path) -> None:
    leak = exposed(tmp_path, plan_of(defense=Mid(beta=0.1)), "inference", repeats=2000)
    assert leak.client_weights is not None
    own = images(20, seed=3).pixels
    found = leak.client_weights.broadcast(own)
    assert torch.equal(found, leak.client_weights.broadcast(own))
    deviation = dict(leak.client_weights.broadcast.features(own))["cut_moments"].chunk(2, dim=1)[1]  # pyright: ignore
    off = (found - asked(leak, own, 0)).abs().max()
    assert float(off.detach()) < 5 * float(deviation.detach().max()) / 2000**0.5


def test_before_the_head_accuracy_is_that_of_samples(tmp_path: Path) -> None:
    plan = plan_of(model=Linear(width=12), defense=Mid(beta=1e-3, place="head"), optimizer=QUICK)
    standing = train(tmp_path, plan, federation((40, 30)), SplitFedV1(rounds=12, batch_size=10)).standing
    # Deviations far above all means: what is left is to guess.
    bias = standing.server["head_moments.map.bias"]
    noisy = {**standing.server, "head_moments.map.bias": bias + torch.tensor([0.0] * 6 + [1e4] * 6)}
    state, test = torch.random.get_rng_state(), images(300, seed=9)
    right, guessed, again = (
        evaluate(plan, standing.deployed, server, test).accuracy for server in (standing.server, noisy, noisy)
    )
    assert right > 0.9
    assert guessed == again < 0.6
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("active", ["training", "inference"])
def test_where_it_does_not_draw_the_mean_crosses_and_no_deviation(active: Any, tmp_path: Path) -> None:
    plan = plan_of(defense=Mid(beta=0.1, features=4, active=active))
    drawn, plain = ("training", "inference") if active == "training" else ("inference", "training")
    assert plan.defense.releasing(drawn) == (plan.defense,)  # pyright: ignore[reportArgumentType]
    leak = exposed(tmp_path, plan, plain)  # pyright: ignore[reportArgumentType]
    assert leak.smashed is not None and not leak.smashed[:, 4:].any()
    segment, own = plan.segments().client.train(plain == "training"), images(5, seed=1).pixels
    outputs = dict(segment.features(own))
    assert torch.equal(outputs["cut_code"][:, :4], outputs["cut_moments"][:, :4])


@pytest.mark.parametrize(("active", "kind"), [("training", "training"), ("inference", "inference")])
def test_who_learns_from_pairs_learns_from_samples_where_samples_cross(
    active: Any, kind: LeakKind, tmp_path: Path
) -> None:
    leak = exposed(tmp_path, plan_of(defense=Mid(beta=0.1, features=4, active=active)), kind)
    assert leak.client_weights is not None and leak.smashed is not None and leak.smashed[:, :4].any()
    own = leak.auxiliary.images
    outputs = dict(leak.client_weights.broadcast.features(own))  # pyright: ignore
    mean, deviation = outputs["cut_moments"].detach().chunk(2, dim=1)
    off = torch.stack([asked(leak, own, seed)[:, :4] - mean for seed in range(300)])
    torch.testing.assert_close(off.std(dim=0), deviation, rtol=0.25, atol=0)


def test_a_round_over_the_step_grain_draws_once_an_exchange() -> None:
    plan, protocol = plan_of(defense=Mid(beta=0.1)), SplitFedV1(batch_size=4)
    own = holding(images(8, seed=0), watched=8)
    update = local_round(plan, protocol, first_task(plan), own, Recording(training=(1,)))
    first, second = (exchange.smashed for exchange in update.closing.exchanges)
    assert not torch.equal(first, second)


def test_it_stands_behind_another_bottleneck_before_noise_and_twice() -> None:
    rows = (
        (LowRank(rank=6), Mid(beta=0.1, features=2), GaussianNoise(std=0.1)),
        (Mid(beta=0.1), Mid(beta=0.1, place="head")),
    )
    for members in rows:
        row = Composition(members=members)
        segments = plan_of(defense=row).segments()
        assert not row.refuses(segments)
        assert segments.whole(images(3, seed=0).pixels).shape == (3, 3)


MID = "{kind: mid, beta: 0.1}"


@pytest.mark.parametrize(
    ("assignments", "refused"),
    [
        ([f"defenses.row=[{MID}, {{kind: low_rank, rank: 2}}]"], "a defense listed after it moves the cut"),
        ([f"defenses.row=[{{kind: gaussian_noise, std: 0.1}}, {MID}]"], "gaussian_noise has to be listed after it"),
        ([f"defenses.row=[{{kind: shredder}}, {MID}]"], "shredder has to be listed after it"),
        ([f"defenses.row=[{{kind: poison_smashed}}, {MID}]"], "poison_smashed has to be listed after it"),
        ([f"defenses.row=[{MID}, {MID}]"], "mid.place: 'cut': is taken by two defenses of one row"),
        (
            ["head=dense2", "model={kind: lenet}", "cut=pool2", "defenses.row={kind: mid, beta: 0.1, place: head}"],
            "has its bottleneck in a head at the client",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_before_any_compute(assignments: list[str], refused: str) -> None:
    with pytest.raises(ScenarioError, match=re.escape(refused)) as caught:
        check_cuts(tiny.scenario(*assignments), (1, 8, 8), 10)
    assert "\n" not in str(caught.value)
    assert "row" in str(caught.value)


def test_a_head_of_the_last_block_alone_leaves_the_bottleneck_to_the_server() -> None:
    check_cuts(tiny.scenario("head=logits", "defenses.row={kind: mid, beta: 0.1, place: head}"), (1, 8, 8), 10)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"beta": 0.0},
        {"beta": -1.0},
        {"beta": 1.0, "features": 0},
        {"beta": 1.0, "place": "tail"},
        {"beta": 1.0, "place": "head", "active": "training"},
    ],
)
def test_it_refuses_settings_out_of_range(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Mid(**settings)
