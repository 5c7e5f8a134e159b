from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Generator, Tensor, nn

from fedsplit.defenses.composition import Composition
from fedsplit.defenses.low_rank import LowRank
from fedsplit.defenses.misleading_fakes import MisleadingFakes
from fedsplit.errors import DataError
from fedsplit.federation.messages import CutGradient
from fedsplit.federation.plan import Plan, state_of
from fedsplit.federation.roles import Client, prepared_holding
from fedsplit.generators.base import ImageGenerator
from fedsplit.layers.anchored import Anchored
from fedsplit.layers.synthesizer import Synthesizer
from fedsplit.models.lenet import LeNet
from fedsplit.records.images import Holding, Images
from tests.federation.builders import SHAPE, bits, federation, holding, images, joined, plan_of, started, train


class Bands(Synthesizer):
    """Noise over the band of a class, as the rows are; a latent for every pixel."""

    def __init__(self, classes: int | None) -> None:
        super().__init__(64, 64, classes)

    def mapping(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        assert labels is not None
        bright = torch.arange(8, device=labels.device)[:, None] // 2 == labels[:, None, None]
        return latents + 2 * bright.expand(-1, 8, 8).flatten(1)

    def synthesis(self, styles: Tensor) -> Tensor:
        return (styles - 1).sigmoid().view(-1, *SHAPE)


class Painter(ImageGenerator):
    conditional = True

    def network(self, shape, classes):
        return Bands(classes)

    def fit(self, images, labels, seeds, tell=lambda _: None):
        return Bands(int(labels.max()) + 1).eval()


PUBLIC = images(60, seed=98)
OWN = holding(images(60, seed=0), watched=3)
SMALL: dict[str, Any] = {"least_rows": 2, "generator": Painter(), "epochs": 10, "learning_rate": 0.02, "steps": 8}


def defense(**changes: Any) -> MisleadingFakes:
    return MisleadingFakes(**(SMALL | changes))


def augmented(own: Holding = OWN, seed: int = 0, public: Images = PUBLIC, **changes: Any) -> Holding:
    model = plan_of().home().client
    return defense(**changes).augment(own, public, model, Generator().manual_seed(seed))


def made(own: Holding = OWN, **changes: Any) -> Holding:
    found = augmented(own, **changes)
    return found.at(torch.arange(len(own), len(found)))


def of_classes(own: Holding, *classes: int) -> Holding:
    return own.at(torch.isin(own.labels, torch.tensor(classes)).nonzero().flatten())


def reader(known: Images | Holding) -> LogisticRegression:
    """A classifier that is not ours."""
    return LogisticRegression(max_iter=300).fit(known.pixels.flatten(1).numpy(), known.labels.numpy())


def named(some: Holding, known: Images | Holding) -> Tensor:
    return torch.as_tensor(reader(known).predict(some.pixels.flatten(1).numpy()))


def sure(some: Holding, labels: Tensor, known: Images | Holding) -> float:
    told = reader(known).predict_proba(some.pixels.flatten(1).numpy())
    return float(numpy.log(told[numpy.arange(len(told)), labels.numpy()]).mean())


def test_a_client_keeps_its_rows_and_gets_two_kinds_of_marked_ones_behind_them() -> None:
    found = augmented(share=0.5, disguised_weight=0.4, inverted_weight=0.2)
    assert len(found) == 120
    assert bits(found.at(torch.arange(60))) == bits(OWN)
    fakes = found.at(torch.arange(60, 120))
    assert fakes.weights[:30].double().sum().item() == pytest.approx(0.4 * 60)
    assert fakes.weights[30:].double().sum().item() == pytest.approx(0.2 * 60)
    assert fakes.rows.tolist() == [-1] * 60
    assert not fakes.watched.any() and fakes.watched.dtype == torch.bool
    assert fakes.pixels.dtype == OWN.pixels.dtype
    assert 0 <= fakes.pixels.min() < fakes.pixels.max() <= 1


def test_disguised_fakes_keep_their_label_and_are_taken_for_another_public_class() -> None:
    plain, moved = (made(share=2.0, inverted_weight=0.0, steps=steps, latent_rate=0.1) for steps in (1, 60))
    assert torch.equal(plain.labels, moved.labels)
    assert (named(plain, PUBLIC) == plain.labels).double().mean() > 0.9
    assert (named(moved, PUBLIC) == moved.labels).double().mean() < 0.2


def test_disguised_fakes_look_like_classes_that_are_public_and_not_their_own() -> None:
    two = PUBLIC.at((PUBLIC.labels < 2).nonzero().flatten())
    moved = made(share=2.0, inverted_weight=0.0, steps=60, latent_rate=0.1, public=two)
    seen = named(moved, PUBLIC)
    # One that is labelled 0 has nothing but 1 to look like, and the other way round.
    for label in (0, 1):
        assert (seen[moved.labels == label] == 1 - label).double().mean() > 0.9
    one = PUBLIC.at((PUBLIC.labels == 1).nonzero().flatten())
    assert set(made(inverted_weight=0.0, public=one).labels.tolist()) == {0, 1, 2}


def test_inverted_fakes_are_surer_of_their_class_than_samples() -> None:
    settings: dict[str, Any] = {"share": 2.0, "disguised_weight": 0.0, "mislabelled": False, "pixel_rate": 0.01}
    plain, moved = (made(steps=steps, **settings) for steps in (1, 30))
    assert torch.equal(plain.labels, moved.labels)
    assert sure(moved, moved.labels, OWN) > sure(plain, plain.labels, OWN) / 2
    assert (named(moved, OWN) == moved.labels).double().mean() > 0.95


def test_inverted_fakes_are_labelled_wrong_as_every_other_class_of_the_client() -> None:
    own = of_classes(OWN, 0, 2)
    found = made(own, share=2.0, disguised_weight=0.0)
    assert set(found.labels.tolist()) == {0, 2}
    assert (named(found, own) == found.labels).double().mean() < 0.05
    three = made(share=2.0, disguised_weight=0.0)
    pairs = set(zip(named(three, OWN).tolist(), three.labels.tolist(), strict=True))
    assert {(one, other) for one in range(3) for other in range(3) if one != other} <= pairs


def test_a_client_of_one_class_knows_no_wrong_label() -> None:
    own = of_classes(OWN, 1)
    found = augmented(own)
    assert len(found) == 2 * len(own) and set(found.labels.tolist()) == {1}


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"least_rows": 61}, 0),
        ({"share": 0.001}, 0),
        ({"disguised_weight": 0.0}, 30),
        ({"inverted_weight": 0.0}, 30),
        ({"disguised_weight": 0.0, "inverted_weight": 0.0}, 0),
    ],
)
def test_what_makes_no_fakes(changes: dict[str, Any], count: int) -> None:
    assert len(augmented(**changes)) == 60 + count


def test_it_depends_on_its_rows_the_model_public_images_and_its_stream_alone() -> None:
    found, state = augmented(), torch.random.get_rng_state()
    assert bits(augmented()) == bits(found)
    assert torch.equal(torch.random.get_rng_state(), state)
    for other in (
        augmented(seed=1),
        augmented(public=images(60, seed=4)),
        augmented(replace(OWN, pixels=1 - OWN.pixels)),
    ):
        assert not torch.equal(other.pixels[60:], found.pixels[60:])
    client = plan_of(seed=6).home().client
    before = {name: value.clone() for name, value in client.state_dict().items()}
    other = defense().augment(OWN, PUBLIC, client, Generator().manual_seed(0))
    assert not torch.equal(other.pixels[60:], found.pixels[60:])
    assert bits(dict(client.state_dict())) == bits(before), "the client's own segment learned"


def test_clients_train_on_fakes_by_their_weight() -> None:
    plan = plan_of(defense=defense(disguised_weight=0.5, inverted_weight=0.25), model=LeNet(channels=2), cut="relu1")
    state = plan.home().whole.state_dict()
    own = prepared_holding(plan, 0, OWN, PUBLIC, state)
    client = Client(plan, plan.home(), own, {}, Generator().manual_seed(0))
    weights = torch.cat([client.send(batch).weights for batch in client.batches(7, Generator().manual_seed(0))])
    assert weights.double().sum().item() == pytest.approx(1.75 * 60)
    assert not torch.equal(prepared_holding(plan, 1, OWN, PUBLIC, state).pixels, own.pixels)


def test_the_warm_start_moves_all_but_the_last_block_and_freezes_none() -> None:
    plan = plan_of(defense=defense())
    segments = plan.segments()
    frozen, start = started(plan, PUBLIC)
    before, after = state_of(segments.whole), {**start.client, **start.server}
    moved = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"rows", "hidden"} and frozen.frozen == ()
    with pytest.raises(DataError, match="learns from public images, and there are 1"):
        started(plan, PUBLIC.at(torch.arange(1)))


def anchored(plan: Plan, public: Images = PUBLIC) -> tuple[Client, Anchored]:
    """A client that begins where the warm start left it."""
    plan, start = started(plan, public)
    home = plan.home()
    plan.prepare(home.whole, start.client, training=True)
    (block,) = (module for module in home.client.modules() if isinstance(module, Anchored))
    return Client(plan, home, OWN, {}, Generator().manual_seed(0)), block


def test_only_where_it_learns_continually_is_anything_remembered() -> None:
    assert not any(isinstance(module, Anchored) for module in plan_of(defense=defense()).segments().whole.modules())
    segments = plan_of(defense=defense(continual=True)).segments()
    assert isinstance(segments.client.get_submodule("rows"), Anchored)
    assert not any(isinstance(module, Anchored) for module in segments.server.modules())
    bare = plan_of().segments().whole
    assert torch.equal(segments.whole(PUBLIC.pixels), bare(PUBLIC.pixels)), "other initial weights, or another network"


def test_what_hangs_on_nothing_has_no_importance() -> None:
    """Columns that are dark in every public image."""
    dark = replace(PUBLIC, pixels=PUBLIC.pixels * (torch.arange(8) > 1))
    _, block = anchored(plan_of(defense=defense(continual=True)), dark)
    weight, importance = (block.get_buffer(name) for name in ("anchor0", "importance0"))
    layer = block.get_submodule("block.0")
    assert isinstance(layer, nn.Linear) and torch.equal(weight, layer.weight)
    assert not importance[:, :2].any() and importance[:, 2:].any()
    assert max(float(block.get_buffer(f"importance{number}").max()) for number in (0, 1)) == 1
    assert min(float(block.get_buffer(f"importance{number}").min()) for number in (0, 1)) >= 0


def test_without_a_task_the_penalty_alone_leads_back() -> None:
    client, block = anchored(plan_of(defense=defense(continual=True, continual_weight=3.0), precision="float64"))
    parameters = dict(block.block.named_parameters())
    importance = {name: block.get_buffer(f"importance{number}") for number, name in enumerate(parameters)}
    noise = {
        name: torch.randn(value.shape, generator=Generator().manual_seed(1)).to(value)
        for name, value in parameters.items()
    }
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.add_(noise[name])
    penalty = 1.5 * sum(
        (importance[name] * (value - block.get_buffer(f"anchor{number}")).square()).sum()
        for number, (name, value) in enumerate(parameters.items())
    )
    expected = dict(zip(parameters, torch.autograd.grad(penalty, tuple(parameters.values())), strict=True))
    before = {name: value.detach().clone() for name, value in parameters.items()}
    crossing = client.send(client.holding)
    client.receive(CutGradient(torch.zeros_like(crossing.smashed)))
    for name, value in parameters.items():
        torch.testing.assert_close(value.detach(), before[name] - 0.1 * expected[name])
        assert not torch.equal(value, before[name])


def test_continual_learning_stays_nearer_and_its_anchors_survive_a_federation(tmp_path: Path) -> None:
    data, weights = replace(federation(), public=PUBLIC), []
    start, after = dict[str, Tensor](), dict[str, Tensor]()
    for continual in (False, True):
        plan = plan_of(defense=defense(continual=continual, continual_weight=15.0))
        start = started(plan, data.public)[1].client
        after = joined(train(tmp_path / str(continual), plan, data).standing)
        weights.append(after["rows.block.0.weight" if continual else "rows.0.weight"])
    importance = start["rows.importance0"]
    free, held = (float((importance * (own - start["rows.anchor0"]).square()).sum()) for own in weights)
    assert 0 < held < 0.8 * free
    for buffer in (name for name in start if "anchor" in name or "importance" in name):
        torch.testing.assert_close(after[buffer], start[buffer])


def test_beside_a_bottleneck_both_blocks_of_the_client_are_anchored() -> None:
    both = Composition(members=(LowRank(rank=3), defense(continual=True)))
    client = plan_of(defense=both).home().client
    assert [name for name, block in client.blocks() if isinstance(block, Anchored)] == list(client.names)
