import math
import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from fedsplit.checks import check_cuts
from fedsplit.component import Trust
from fedsplit.defenses.composition import Composition
from fedsplit.defenses.low_rank import LowRank
from fedsplit.defenses.low_rank_head import LowRankHead
from fedsplit.defenses.none import Undefended
from fedsplit.errors import ScenarioError
from fedsplit.federation.exposure import Observation, expose
from fedsplit.federation.ledger import Recording
from fedsplit.federation.messages import Crossing
from fedsplit.federation.optimizer import Adam
from fedsplit.federation.plan import Plan
from fedsplit.federation.roles import HonestServer
from fedsplit.models.base import Model
from fedsplit.models.lenet import LeNet
from fedsplit.models.linear import Linear
from fedsplit.models.resnet18 import ResNet18
from fedsplit.numerics.confidence import tempered_loss
from fedsplit.protocols.parallel import Parallel
from fedsplit.protocols.sequential import Sequential
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.protocols.splitfed_v2 import SplitFedV2
from fedsplit.reading import parse
from fedsplit.records.leak import LeakKind
from fedsplit.records.step import Progress, ServerStep
from tests import tiny
from tests.federation.builders import CLASSES, auxiliary, bits, federation, images, joined, plan_of, train, whole_model

PLACES = [(Linear(width=5), "rows"), (Linear(width=5), "hidden"), (LeNet(channels=2), "dense1")]
PLACES += [(ResNet18(stem="small"), "layer1_block1")]
IDS = [f"{model.kind}-{cut}" for model, cut in PLACES]


class Fused(Model):
    """Its classifier has a nonlinearity in the same block."""

    def blocks(self, shape: tuple[int, int, int], classes: int) -> "OrderedDict[str, nn.Module]":
        size = math.prod(shape)
        return OrderedDict(flat=nn.Flatten(), all=nn.Sequential(nn.Linear(size, 4), nn.ReLU(), nn.Linear(4, classes)))


def code_of(plan: Plan, state: dict[str, Tensor], features: Tensor) -> Tensor:
    """What lies between the two maps, written out."""
    mean, variance = state["logits.norm.running_mean"], state["logits.norm.running_var"]
    standard = (features - mean) / (variance + 1e-5).sqrt()
    normal = standard * state["logits.norm.weight"] + state["logits.norm.bias"]
    return normal @ state["logits.low_rank.factor.weight"].T + state["logits.low_rank.factor.bias"]


@pytest.mark.parametrize(("model", "cut"), PLACES, ids=IDS)
def test_two_blocks_are_in_place_of_the_last_and_the_others_are_as_they_were(model: Model, cut: str) -> None:
    plain = plan_of(model=model, cut=cut)
    defended = plan_of(model=model, cut=cut, defense=LowRankHead(rank=2))
    begun, before, after = whole_model(plain).state_dict(), plain.segments(), defended.segments()
    assert after.client.names == before.client.names
    assert after.server.names == (*before.server.names, "logits_expansion")
    assert after.cut_shape == before.cut_shape
    found = after.whole.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in begun.items() if not name.startswith("logits."))
    last = begun["logits.weight"]
    assert found["logits.low_rank.factor.weight"].shape == (2, last.shape[1])
    assert found["logits.low_rank.factor.bias"].shape == (2,)
    assert found["logits_expansion.weight"].shape == (last.shape[0], 2)
    assert found["logits_expansion.bias"].shape == (last.shape[0],)


@pytest.mark.parametrize(
    ("activation", "passed"),
    [
        ("none", lambda values: values),
        ("relu", lambda values: values.clamp(min=0)),
        ("relu6", lambda values: values.clamp(0, 6)),
        ("leaky_relu", lambda values: torch.where(values > 0, values, 0.01 * values)),
        ("sigmoid", lambda values: 1 / (1 + (-values).exp())),
        ("tanh", torch.tanh),
    ],
)
@pytest.mark.parametrize("head", [None, "logits", "hidden"])
def test_what_leaks_behind_the_cut_is_the_squeezed_code(activation, passed, head, tmp_path: Path) -> None:
    model, defense = LeNet(channels=2), LowRankHead(rank=4, activation=activation)
    head = {"hidden": "dense2"}.get(head, head)
    plan = plan_of(model=model, cut="pool1", head=head, defense=defense, precision="float64")
    data = federation()
    trained = train(tmp_path, plan, data, recording=Recording(inference=(2,)))
    state, own = joined(trained.standing), images(20, seed=3).pixels.double()
    whole = plan.prepare(plan.segments().whole, state, training=False)
    features = dict(whole.features(own))["dense2"].detach()
    code = passed(code_of(plan, state, features))
    expected: dict[LeakKind, Tensor] = {
        "hidden": code,
        "answers": (code @ state["logits_expansion.weight"].T + state["logits_expansion.bias"]).softmax(dim=1),
    }
    for kind, values in expected.items():
        leak = expose(plan, trained, data, auxiliary(), Observation(kind, 2, True)).leak
        assert leak.client_queries is not None and leak.smashed is not None
        assert leak.smashed.shape[1:] == values.shape[1:]
        torch.testing.assert_close(leak.client_queries(own, Generator()), values, rtol=1e-8, atol=1e-10)


def test_a_head_that_stays_at_the_client_stays_there_as_a_whole() -> None:
    segments = plan_of(head="logits", defense=LowRankHead(rank=2)).segments()
    assert segments.head is not None
    assert segments.head.names == ("logits", "logits_expansion")
    assert segments.server.names == ("hidden",)


@pytest.mark.parametrize("head", [None, "logits"])
@pytest.mark.parametrize("protocol", [SplitFedV1, SplitFedV2, Sequential, Parallel])
def test_a_federation_learns_with_it(protocol, head: str | None, tmp_path: Path) -> None:
    plan = plan_of(model=Linear(width=12), head=head, defense=LowRankHead(rank=2), optimizer=Adam(learning_rate=0.01))
    data, schedule = federation((40, 30)), protocol(rounds=16, batch_size=10)
    trained = train(tmp_path / "one", plan, data, schedule)
    assert trained.accuracy > 0.9
    torch.rand(3)
    assert bits(train(tmp_path / "two", plan, data, schedule).standing) == bits(trained.standing)


def test_it_composes_with_what_moves_the_cut_and_with_itself() -> None:
    both = Composition(members=(LowRank(rank=3), LowRankHead(rank=2), LowRankHead(rank=1)))
    segments = plan_of(model=Linear(width=5), cut="hidden", defense=both).segments()
    assert segments.client.names == ("rows", "hidden", "hidden_factor")
    assert segments.server.names == ("hidden_expansion", "logits", "logits_expansion", "logits_expansion_expansion")
    segments.whole.eval()
    assert segments.server(segments.client(torch.rand(4, 1, 8, 8))).shape == (4, CLASSES)


def test_a_model_without_such_a_head_is_refused_in_one_line_before_any_compute() -> None:
    raw = tiny.raw("defenses.small={kind: low_rank_head, rank: 2}")
    raw["model"], raw["cut"] = {"kind": f"{__name__}:Fused"}, "flat"
    refused = (
        f"low_rank_head: '{__name__}:Fused': replaces a last block that is one linear layer, and all is a Sequential; "
        "leave this row out, or make that layer a block of its own (in row 'small')"
    )
    with pytest.raises(ScenarioError, match=re.escape(refused)):
        check_cuts(parse(raw, Trust()), (1, 8, 8), 3, device="cpu")


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 0.5, 2.0, 1.0, 0.0, 1.5])])
def test_in_the_last_rounds_the_loss_is_the_tempered_one(weights: Tensor | None) -> None:
    defense = LowRankHead(rank=2, adapted_rounds=2, scale=0.5, power=6.0)
    plan = plan_of(defense=defense, precision="float64")
    segments = plan.segments()
    labels = torch.arange(6) % CLASSES
    smashed = torch.rand((6, *segments.cut_shape), generator=Generator().manual_seed(1), dtype=torch.float64)

    def gradients(number: int) -> list[Tensor]:
        features = segments.server.features(smashed)
        logits = features[-1][1]
        shares = torch.ones(6) if weights is None else weights
        shares = shares.double() / shares.double().sum()
        penalty = defense.server_penalty(ServerStep(features, logits, labels, weights, Progress(number, 5)))
        task = (F.cross_entropy(logits, labels, reduction="none") * shares).sum()
        wanted = (0.5 * tempered_loss(logits, labels, 6.0) * shares).sum()
        torch.testing.assert_close(task + penalty, task if number <= 3 else wanted)
        return list(torch.autograd.grad(task + penalty, list(segments.server.parameters()))) if number > 3 else []

    gradients(1), gradients(3)
    for late in (4, 5):
        # Nothing is left of the task, and what is there moves every parameter of the head.
        assert all(bool(gradient.any()) for gradient in gradients(late))


def test_alone_it_pulls_the_confidence_to_where_it_says() -> None:
    defense = LowRankHead(rank=3, adapted_rounds=1, power=4.0)
    plan = plan_of(model=Linear(width=12), defense=defense, precision="float64", optimizer=Adam(learning_rate=0.01))
    server = HonestServer(plan, plan.segments().server.train(), {}, Progress(1, 1))
    own = images(30, seed=2)
    smashed = plan.segments().client(own.pixels.double()).detach()
    for _ in range(500):
        server.answer(Crossing(smashed, own.labels, torch.ones(30).double()))
        server.move()
    confidence = server.segment(smashed).softmax(dim=1).gather(1, own.labels[:, None]).detach()
    assert float(confidence.mean()) == pytest.approx(math.exp(-1 / 4), abs=0.01)
    assert float(confidence.std()) < 0.02


@pytest.mark.parametrize("protocol", [SplitFedV1, SplitFedV2, Sequential, Parallel])
def test_only_the_last_rounds_differ(protocol, tmp_path: Path) -> None:
    def states(defense: LowRankHead) -> list[object]:
        plan = plan_of(defense=defense)
        recording = Recording(inference=(1, 2, 3))
        trained = train(tmp_path / defense.model_dump_json(), plan, federation(), protocol(rounds=3), recording)
        return [bits(page.server) for page in trained.ledger.pages]

    plain, adapted = states(LowRankHead(rank=2)), states(LowRankHead(rank=2, adapted_rounds=1))
    assert adapted[:2] == plain[:2]
    assert adapted[2] != plain[2]


@pytest.mark.parametrize("head", [None, "logits"])
@pytest.mark.parametrize("protocol", [SplitFedV1, SplitFedV2, Sequential, Parallel])
def test_every_step_knows_its_round_and_the_weights_of_its_rows(protocol, head, tmp_path: Path) -> None:
    SEEN.clear()
    train(tmp_path, plan_of(head=head, defense=Listening()), federation(), protocol(rounds=3, batch_size=50))
    assert [step.progress for step in SEEN] == sorted((step.progress for step in SEEN), key=lambda one: one.round)
    assert {step.progress for step in SEEN} == {Progress(number, 3) for number in (1, 2, 3)}
    assert all(step.weights is not None and len(step.weights) == len(step.features[0][1]) for step in SEEN)
    assert [Progress(number, 3).left for number in (1, 2, 3)] == [2, 1, 0]


SEEN: list[ServerStep] = []


class Listening(Undefended):
    def server_penalty(self, step: ServerStep) -> Tensor:
        SEEN.append(step)
        return Undefended.server_penalty(self, step)


def test_labels_that_stay_at_the_client_are_refused_where_the_loss_needs_them() -> None:
    assert tiny.scenario("head=logits", "defenses.small={kind: low_rank_head, rank: 2}").head == "logits"
    with pytest.raises(ScenarioError, match="row 'small' needs them at the server"):
        tiny.scenario("head=logits", "defenses.small={kind: low_rank_head, rank: 2, adapted_rounds: 1}")
