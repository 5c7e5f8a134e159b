from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Generator, Tensor

from fedsplit.defenses.base import Defense, Deployed
from fedsplit.defenses.gaussian_noise import GaussianNoise
from fedsplit.defenses.mid import Mid
from fedsplit.defenses.sparse_standard import SparseStandard
from fedsplit.errors import EngineError
from fedsplit.federation.exposure import Exposure, Observation, expose, victims
from fedsplit.federation.ledger import Recording
from fedsplit.federation.plan import Plan
from fedsplit.federation.roles import FederationData
from fedsplit.federation.trained import Trained
from fedsplit.models.base import Model
from fedsplit.models.lenet import LeNet
from fedsplit.models.linear import Linear
from fedsplit.protocols.parallel import Parallel
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.records.images import Holding
from fedsplit.records.leak import Asset, LeakKind, closure
from fedsplit.split import Segments
from fedsplit.threats.base import THREATS, AnyThreat, Threat
from tests.defenses import plugins
from tests.federation.builders import auxiliary, images, plan_of, train
from tests.records.contents import tensors_of

NORMALISED: dict[str, Any] = {"model": LeNet(channels=2, batch_norm=True), "cut": "relu1"}
RECORDING = Recording(training=(1, 2), inference=(1, 2))
PROTOCOL = SplitFedV1(rounds=2, batch_size=6)
POOL = images(33, seed=5)
KINDS: tuple[LeakKind, ...] = ("training", "inference")
BEHIND: tuple[LeakKind, ...] = ("hidden", "answers", "model")
DEPLOYED = {Asset.SCORES, Asset.MODEL}
"""Of the deployed model alone."""
TRAINED: dict[str, tuple[Plan, Trained, FederationData]] = {}


def scattered() -> FederationData:
    """Rows dealt to the clients in no order; every third one is a target, and the last client has none."""
    order = torch.randperm(33, generator=Generator().manual_seed(2))
    owned = [order[:14], order[14:24], order[24:]]
    holdings: list[Holding] = []
    for client, rows in enumerate(owned):
        own = POOL.at(rows)
        watched = (rows % 3 == 0) & (client < 2)
        holdings.append(Holding(own.pixels, own.labels, torch.ones(len(rows)), rows, watched))
    visitors = tuple(own.at(own.watched.nonzero().flatten()) for own in holdings)
    return FederationData(tuple(holdings), visitors, images(3, seed=0), images(9, seed=1))


def trained_with(cell: Path, **changes: Any) -> tuple[Plan, Trained, FederationData]:
    plan, data = plan_of(**changes), scattered()
    return plan, train(cell, plan, data, PROTOCOL, RECORDING), data


def seen(
    found: tuple[Plan, Trained, FederationData], kind: LeakKind, number: int = 2, *, defended: bool = True
) -> Exposure:
    plan, trained, data = found
    return expose(plan, trained, data, auxiliary(), Observation(kind, number, defended))


def targets(data: FederationData) -> list[int]:
    return sorted(row for own in data.visitors for row in own.rows.tolist())


def smashed_of(exposure: Exposure) -> Tensor:
    assert exposure.leak.smashed is not None
    return exposure.leak.smashed


@pytest.mark.parametrize("kind", KINDS)
def test_targets_are_in_ascending_order_of_rows_each_once(kind: LeakKind, tmp_path: Path) -> None:
    found = trained_with(tmp_path)
    exposure = seen(found, kind)
    assert exposure.rows.tolist() == targets(found[2])
    assert len(smashed_of(exposure)) == len(exposure.rows) >= 6


def test_an_inference_leak_is_what_the_deployed_segment_makes_of_each_target(tmp_path: Path) -> None:
    plan, trained, data = found = trained_with(tmp_path, **NORMALISED)
    for number in (1, 2):
        exposure = seen(found, "inference", number)
        segment = plan.prepare(plan.segments().client, trained.ledger.page(number).client, training=False)
        torch.testing.assert_close(smashed_of(exposure), segment(POOL.pixels[exposure.rows]).detach())
        assert exposure.leak.round == number
        assert exposure.leak.cut_gradients is None
        assert exposure.leak.labels is None
    assert data.visitors[2].rows.numel() == 0


@pytest.mark.parametrize("kind", BEHIND)
@pytest.mark.parametrize(
    "changes",
    [{"cut": "pool1"}, {"cut": "pool1", "head": "dense2"}, {"cut": "dense2"}, {"cut": "relu1", "head": "logits"}],
    ids=["server ends", "head at home", "nothing hidden behind the cut", "logits at home"],
)  # fmt: skip
def test_behind_the_cut_is_what_the_defended_model_makes_of_each_target(
    kind: LeakKind, changes: dict[str, Any], tmp_path: Path
) -> None:
    defense = plugins.Shift(by=0.3)
    plan, trained, _ = found = trained_with(tmp_path, model=LeNet(channels=2), defense=defense, **changes)
    page, segments = trained.ledger.page(2), plan.segments()
    plan.prepare(segments.home.whole, page.client, training=False)
    plan.prepare(segments.server, page.server, training=False)
    names = [name for name, _ in segments.whole.blocks()]

    def passed(images_: Tensor, shift: float) -> Tensor:
        for name, block in segments.whole.blocks():
            if name == names[-1] and kind == "hidden":
                return images_.detach()
            images_ = block(images_) + (shift if name == plan.cut else 0.0)
        return images_.softmax(dim=1).detach()

    for defended in (True, False):
        exposure = seen(found, kind, defended=defended)
        leak, own = exposure.leak, exposure.leak.auxiliary
        torch.testing.assert_close(smashed_of(exposure), passed(POOL.pixels[exposure.rows], 0.3))
        assert leak.auxiliary_pairs is not None and leak.client_queries is not None
        for images_, answer in (
            (own.images, leak.auxiliary_pairs.smashed),
            (own.validation_images, leak.auxiliary_pairs.validation_smashed),
        ):
            torch.testing.assert_close(answer, passed(images_, 0.3 * defended))
            torch.testing.assert_close(leak.client_queries(images_, Generator()), answer)
    assert victims(found[0], trained, found[2], kind, 2) == (None,)


def test_who_holds_the_model_holds_what_was_deployed_without_the_defense_of_what_is_sent(tmp_path: Path) -> None:
    defense = plugins.Shift(by=0.3)
    plan, trained, _ = found = trained_with(tmp_path, model=LeNet(channels=2), cut="pool1", defense=defense)
    leak, page, segments = seen(found, "model").leak, trained.ledger.page(2), plan.segments()
    plan.prepare(segments.home.whole, page.client, training=False)
    plan.prepare(segments.server, page.server, training=False)
    assert leak.model is not None and leak.scores is not None and not leak.model.training
    own = leak.auxiliary.images
    torch.testing.assert_close(leak.model(own), segments.whole(own))
    told = leak.scores(own, Generator())
    torch.testing.assert_close(told.sum(dim=1), torch.ones(len(own)))
    assert not torch.allclose(told, leak.model(own).softmax(dim=1), atol=1e-4), "what is sent is shifted"
    torch.testing.assert_close(told, seen(found, "answers").leak.client_queries(own, Generator()))  # pyright: ignore
    (gradient,) = torch.autograd.grad(leak.model(own.requires_grad_()).sum(), own)
    assert bool(gradient.any())


def test_who_holds_weights_has_gradients_that_no_training_had_a_use_for(tmp_path: Path) -> None:
    defense = SparseStandard(features=4, convolution=4, kernel_size=3)
    found = trained_with(tmp_path, model=LeNet(channels=2), cut="pool1", defense=defense)
    leak = seen(found, "model").leak
    assert leak.client_weights is not None and leak.model is not None
    for network in (leak.client_weights.broadcast, leak.model):
        images = leak.auxiliary.images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(network(images).square().sum(), images)
        assert bool(gradient.isfinite().all()) and bool(gradient.any())


def test_answers_are_those_that_the_defense_releases(tmp_path: Path) -> None:
    class Certain(Defense):
        def deploy(self, model, data, rng):
            return type(Defense.deploy(self, model, data, rng))(
                release=lambda smashed, rng: smashed,
                answer=lambda images, confidences: (confidences == confidences.amax(dim=1, keepdim=True)).to(images),
            )

    found = trained_with(tmp_path, defense=Certain())
    assert set(smashed_of(seen(found, "answers")).unique().tolist()) == {0.0, 1.0}
    leak = seen(found, "answers", defended=False).leak
    assert leak.auxiliary_pairs is not None
    assert len(leak.auxiliary_pairs.smashed.unique()) > 2, "who does not know of the defense prepares for true answers"


@pytest.mark.parametrize("kind", KINDS)
def test_clients_with_segments_of_their_own_are_attacked_apart(kind: LeakKind, tmp_path: Path) -> None:
    plan, data = plan_of(), scattered()
    protocol = Parallel(rounds=2, batch_size=6, sync="never")
    trained = train(tmp_path, plan, data, protocol, RECORDING)
    assert victims(plan, trained, data, kind, 2) == (0, 1), "the last client has no target"
    exposures = [expose(plan, trained, data, auxiliary(), Observation(kind, 2, True, client)) for client in (0, 1)]
    assert sorted(row for exposure in exposures for row in exposure.rows.tolist()) == targets(data)
    for client, exposure in enumerate(exposures):
        assert exposure.rows.tolist() == sorted(data.visitors[client].rows.tolist())
        page, leak = trained.ledger.page(2), exposure.leak
        state = page.after(client) if kind == "inference" else page.before(client)
        own = plan.prepare(plan.segments().client, state, training=False)
        assert leak.auxiliary_pairs is not None and leak.client_weights is not None
        torch.testing.assert_close(leak.auxiliary_pairs.smashed, own(auxiliary().images).detach())
        if kind == "inference":
            torch.testing.assert_close(smashed_of(exposure), own(POOL.pixels[exposure.rows]).detach())
        assert len(leak.client_weights.returned) == (kind == "training")
    assert not torch.equal(*(one.leak.auxiliary_pairs.smashed for one in exposures if one.leak.auxiliary_pairs))


def test_a_shared_segment_is_attacked_once(tmp_path: Path) -> None:
    plan, trained, data = trained_with(tmp_path)
    assert victims(plan, trained, data, "inference", 2) == victims(plan, trained, data, "training", 2) == (None,)


def test_a_training_leak_is_what_crossed_in_this_round(tmp_path: Path) -> None:
    found = trained_with(tmp_path, **NORMALISED)
    for number in (1, 2):
        exposure = seen(found, "training", number)
        leak = exposure.leak
        assert leak.labels is not None
        assert leak.cut_gradients is not None
        assert torch.equal(leak.labels, POOL.labels[exposure.rows])
        crossed = {
            row: (smashed, gradient)
            for exchange in found[1].ledger.page(number).exchanges
            for row, smashed, gradient in zip(exchange.rows.tolist(), exchange.smashed, exchange.gradient, strict=True)
        }
        for place, row in enumerate(exposure.rows.tolist()):
            assert torch.equal(smashed_of(exposure)[place], crossed[row][0])
            assert torch.equal(leak.cut_gradients[place], crossed[row][1])


def test_client_segments_are_those_of_the_round_in_evaluation_mode(tmp_path: Path) -> None:
    plan, trained, _ = found = trained_with(tmp_path, **NORMALISED)
    page = trained.ledger.page(2)
    for kind, state in (("training", page.broadcast), ("inference", page.client)):
        weights = seen(found, kind).leak.client_weights
        assert weights is not None
        assert len(weights.returned) == (3 if kind == "training" else 0)
        for module, expected in (
            (weights.broadcast, state),
            *zip(weights.returned, dict(page.returned).values(), strict=False),
        ):
            assert all(torch.equal(value, expected[name]) for name, value in module.state_dict().items())
            assert not any(part.training for part in module.modules())
    assert plan.frozen == ()


def test_server_segments_are_those_of_every_recorded_round_up_to_this_one(tmp_path: Path) -> None:
    found = trained_with(tmp_path)
    for number in (1, 2):
        servers = seen(found, "inference", number).leak.server_segments
        assert servers is not None
        assert [module.state_dict()["logits.bias"].tolist() for module in servers] == [
            page.server["logits.bias"].tolist() for page in found[1].ledger.pages[:number]
        ]


def test_pairs_and_queries_are_released_like_the_targets(tmp_path: Path) -> None:
    plan, trained, _ = found = trained_with(tmp_path, defense=plugins.Shift(by=100.0))
    page = trained.ledger.page(2)
    for kind, state in (("training", page.broadcast), ("inference", page.client)):
        segment = plan.prepare(plan.segments().client, state, training=False)
        for defended in (True, False):
            leak = seen(found, kind, defended=defended).leak
            shift = 100 * defended
            assert leak.auxiliary_pairs is not None
            assert leak.client_queries is not None
            own = leak.auxiliary
            pairs = leak.auxiliary_pairs
            for images_, answer in ((own.images, pairs.smashed), (own.validation_images, pairs.validation_smashed)):
                torch.testing.assert_close(answer, segment(images_).detach() + shift)
                torch.testing.assert_close(leak.client_queries(images_, Generator()), answer)
            # The targets themselves are defended, whatever the adversary knows.
            assert smashed_of(seen(found, kind, defended=defended)).min() >= 100


@pytest.mark.parametrize("active", ["training", "inference"])
@pytest.mark.parametrize("kind", KINDS)
def test_who_learns_from_pairs_learns_from_what_is_released_where_the_targets_are(
    kind: LeakKind, active: Any, tmp_path: Path
) -> None:
    found = trained_with(tmp_path, defense=plugins.Shift(by=100.0, active=active))
    leak = seen(found, kind).leak
    assert leak.smashed is not None and leak.auxiliary_pairs is not None and leak.client_queries is not None
    lowest = [
        one.min() >= 50
        for one in (leak.smashed, leak.auxiliary_pairs.smashed, leak.client_queries(leak.auxiliary.images, Generator()))
    ]
    assert lowest == [kind == active] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_normalised_as_what_crossed_was(kind: LeakKind, tmp_path: Path) -> None:
    # After no round at all running statistics say nothing yet of what a step does.
    leak = seen(trained_with(tmp_path, **NORMALISED), kind, 1).leak
    assert leak.smashed is not None and leak.auxiliary_pairs is not None and leak.client_queries is not None
    crossed, paired = (one.square().mean(dim=(0, 2, 3)).sqrt() for one in (leak.smashed, leak.auxiliary_pairs.smashed))
    # A channel that is nowhere active says nothing.
    assert ((crossed - paired).abs() <= 0.4 * paired).all() and paired.any()
    one = leak.client_queries(leak.auxiliary.images[:1], Generator())
    torch.testing.assert_close(one, leak.auxiliary_pairs.smashed[:1])


@pytest.mark.parametrize("kind", BEHIND)
def test_a_model_that_is_held_draws_nothing(kind: LeakKind, tmp_path: Path) -> None:
    leak = seen(trained_with(tmp_path, defense=Mid(beta=0.1, place="head")), kind).leak
    assert leak.server_segments is not None and leak.client_weights is not None
    state, own = torch.random.get_rng_state(), leak.auxiliary.images
    held = [lambda images: leak.server_segments[-1](leak.client_weights.broadcast(images))]  # pyright: ignore
    for network in [*held, *([] if leak.model is None else [leak.model])]:
        assert torch.equal(network(own), network(own))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (leak.model is not None) == (kind == "model")


def test_queries_draw_fresh_noise_from_the_adversarys_stream_and_come_in_any_number(tmp_path: Path) -> None:
    leak = seen(trained_with(tmp_path, defense=GaussianNoise(std=1.0)), "inference").leak
    assert leak.client_queries is not None
    many = images(700, seed=3).pixels
    first, again, other = (leak.client_queries(many, Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (700, 1, 8, 5)
    assert not first.requires_grad


@pytest.mark.parametrize("kind", ["inference", *BEHIND])
def test_the_mean_of_answers_is_seen_of_targets_pairs_and_queries(kind: LeakKind, tmp_path: Path) -> None:
    plan, trained, data = found = trained_with(tmp_path, defense=GaussianNoise(std=0.2))
    clean = seen(found, kind, defended=False).leak.auxiliary_pairs
    one, many = (
        expose(plan, trained, data, auxiliary(), Observation(kind, 2, True, repeats=repeats)).leak
        for repeats in (1, 64)
    )
    assert (one.repeats, many.repeats) == (1, 64)
    assert torch.equal(smashed_of(seen(found, kind)), one.smashed if one.smashed is not None else torch.empty(0))
    assert clean is not None and one.auxiliary_pairs is not None and many.auxiliary_pairs is not None
    errors = [(pairs.smashed - clean.smashed).var() for pairs in (one.auxiliary_pairs, many.auxiliary_pairs)]
    # Behind the cut layers that are not linear make a bias of noise, which no mean takes away.
    assert (30 if kind == "inference" else 8) < errors[0] / errors[1] < 130
    assert one.client_queries is not None and many.client_queries is not None
    asked = images(300, seed=3).pixels
    spread = [
        torch.stack([queries(asked, Generator().manual_seed(seed)) for seed in range(4)]).var(dim=0).mean()
        for queries in (one.client_queries, many.client_queries)
    ]
    assert 50 < spread[0] / spread[1] < 80


def test_noise_at_inference_is_drawn_by_client_and_the_same_in_every_look(tmp_path: Path) -> None:
    found = trained_with(tmp_path, defense=GaussianNoise(std=1.0))
    assert torch.equal(smashed_of(seen(found, "inference")), smashed_of(seen(found, "inference", defended=False)))
    assert not torch.equal(smashed_of(seen(found, "inference")), smashed_of(seen(found, "training")))


def test_what_deploy_draws_globally_changes_nothing_outside(tmp_path: Path) -> None:
    class Learned(Defense):
        def deploy(self, model, data, rng):
            layer = torch.nn.Linear(5, 5)
            return type(Defense.deploy(self, model, data, rng))(
                release=lambda smashed, rng: layer(smashed), answer=lambda images, confidences: confidences
            )

    found = trained_with(tmp_path, defense=Learned())
    state = torch.random.get_rng_state()
    first = smashed_of(seen(found, "inference"))
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(smashed_of(seen(found, "inference")), first)


def tensors_in(holder: object) -> Iterator[Tensor]:
    if isinstance(holder, Tensor):
        yield holder
    elif is_dataclass(holder):
        for field in fields(holder):
            yield from tensors_in(getattr(holder, field.name))
    elif isinstance(holder, dict):
        for part in holder.values():
            yield from tensors_in(part)
    elif isinstance(holder, tuple):
        for part in holder:
            yield from tensors_in(part)


class Identity(Model):
    """A client that sends the images themselves: what is released is a view of what is private."""

    def blocks(self, shape, classes):
        return OrderedDict(same=torch.nn.Identity(), flat=torch.nn.Flatten(), logits=torch.nn.Linear(64, classes))


@pytest.mark.parametrize("kind", KINDS + BEHIND)
@pytest.mark.parametrize(
    "changes", [{}, NORMALISED, {"model": Identity(), "cut": "same"}, {"model": Identity(), "cut": "flat"}],
    ids=["linear", "lenet", "identity", "view"],
)  # fmt: skip
def test_a_leak_shares_no_storage_with_any_party(kind: LeakKind, changes: dict[str, Any], tmp_path: Path) -> None:
    found = trained_with(tmp_path, **changes)
    leak = seen(found, kind).leak
    leaked = {tensor.untyped_storage().data_ptr() for tensor in tensors_of(leak)}
    private = {tensor.untyped_storage().data_ptr() for party in found[1:] for tensor in tensors_in(party)} | {
        POOL.pixels.untyped_storage().data_ptr(), POOL.labels.untyped_storage().data_ptr()
    }  # fmt: skip
    assert len(leaked) > 8
    assert len(private) > 30
    assert not (leaked & private) - {0}


def test_an_adversary_who_spoils_its_copies_spoils_nothing_else(tmp_path: Path) -> None:
    found = trained_with(tmp_path)
    first = seen(found, "training").leak
    expected = smashed_of(seen(found, "inference")).clone()
    assert first.client_weights is not None
    assert first.client_queries is not None
    answers = first.client_queries(first.auxiliary.images, Generator())
    for tensor in tensors_of(first):
        if tensor is not first.auxiliary.images:
            tensor.zero_()
    assert torch.equal(smashed_of(seen(found, "inference")), expected)
    assert torch.equal(first.client_queries(first.auxiliary.images, Generator()), answers)


@pytest.mark.parametrize("kind", KINDS + BEHIND)
@pytest.mark.parametrize("threat", THREATS.shipped)
def test_every_threat_gets_the_fields_it_is_granted_and_no_other(threat: str, kind: LeakKind, tmp_path: Path) -> None:
    if not TRAINED:
        TRAINED["any"] = trained_with(tmp_path)
    exposure = seen(TRAINED["any"], kind)
    adversary: Threat = TypeAdapter[Threat](AnyThreat).validate_python({"kind": threat})
    view = adversary.view(exposure.leak)
    granted = closure(adversary.grants) | {Asset.DEFENSE}
    absent = (
        {Asset.HEAD_GRADIENTS, Asset.REPEATS}
        | ({Asset.CUT_GRADIENTS, Asset.LABELS} if kind != "training" else set())
        | (DEPLOYED if kind != "model" else set())
    )
    for asset in Asset:
        assert (getattr(view, asset.value) is not None) == (asset in granted and asset not in absent), asset
    assert "rows" not in {field.name for field in fields(view)}


def test_the_whole_leak_holds_every_asset(tmp_path: Path) -> None:
    leak = seen(trained_with(tmp_path), "training").leak
    missing = {asset for asset in Asset if getattr(leak, asset.value) is None}
    assert missing == {Asset.HEAD_GRADIENTS, Asset.REPEATS} | DEPLOYED
    assert (leak.image_shape, leak.classes, leak.kind, leak.defense) == ((1, 8, 8), 3, "training", plan_of().defense)


def test_a_round_without_any_target_is_told_in_one_line(tmp_path: Path) -> None:
    plan, data = plan_of(), scattered()
    protocol = SplitFedV1(rounds=8, batch_size=6, participation=0.3)
    trained = train(tmp_path, plan, data, protocol, Recording(training=tuple(range(1, 9))))
    missed = next(page for page in trained.ledger.pages if [client for client, _ in page.returned] == [2])
    with pytest.raises(EngineError, match=f"round {missed.round}: no target crossed the cut; attack another round"):
        expose(plan, trained, data, auxiliary(), Observation("training", missed.round, True))


def test_targets_need_not_be_trained_on(tmp_path: Path) -> None:
    plan, data = plan_of(model=Linear(width=5)), scattered()
    test = images(5, seed=44)
    visitors = tuple(
        Holding(
            test.pixels[rows],
            test.labels[rows],
            torch.ones(len(rows)),
            500 + rows,
            torch.ones(len(rows), dtype=torch.bool),
        )
        for rows in (torch.tensor([4, 0]), torch.tensor([1, 3]), torch.tensor([2]))
    )
    data = FederationData(data.holdings, visitors, data.public, data.test)
    trained = train(tmp_path, plan, data, PROTOCOL, RECORDING)
    exposure = seen((plan, trained, data), "inference")
    assert exposure.rows.tolist() == [500, 501, 502, 503, 504]
    segment = plan.prepare(plan.segments().client, trained.standing.client, training=False)
    torch.testing.assert_close(smashed_of(exposure), segment(test.pixels).detach())


@pytest.mark.parametrize("kind", ["inference", "hidden", "answers"])
def test_beside_what_deployed_clients_show_is_what_they_would_have_shown(kind: LeakKind, tmp_path: Path) -> None:
    found, plain = trained_with(tmp_path / "own", defense=Surer(by=3.0)), trained_with(tmp_path / "plain")
    exposure, bare = seen(found, kind), seen(plain, kind)
    assert bare.clean is None and exposure.clean is not None
    torch.testing.assert_close(exposure.clean, smashed_of(bare))
    assert torch.equal(smashed_of(exposure), exposure.clean) == (kind != "answers")
    assert torch.equal(exposure.rows, bare.rows)
    assert not any(value is exposure.clean for value in tensors_of(exposure.leak))


def test_nothing_is_beside_what_crossed_in_training(tmp_path: Path) -> None:
    assert seen(trained_with(tmp_path, defense=Surer(by=3.0)), "training").clean is None


class Surer(Defense):
    """Deployed clients answer with less doubt."""

    by: float

    def deploy(self, model: Segments, data: Holding, rng: Generator) -> Deployed:
        del model, data, rng
        return Deployed(
            self.released("inference").release, lambda _, some: some**self.by / (some**self.by).sum(dim=1, keepdim=True)
        )
