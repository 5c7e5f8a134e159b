from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Generator

from fedsplit.checks import check_cuts
from fedsplit.defenses.bido import Bido
from fedsplit.defenses.composition import Composition
from fedsplit.defenses.low_rank import LowRank
from fedsplit.errors import ScenarioError
from fedsplit.federation.messages import CutGradient
from fedsplit.federation.optimizer import Adam
from fedsplit.federation.plan import Plan
from fedsplit.federation.roles import Client
from fedsplit.models.lenet import LeNet
from fedsplit.numerics.dependence import class_kernel, coco, gaussian_kernel, hsic
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.records.step import ClientStep
from tests import tiny
from tests.defenses import plugins
from tests.federation.builders import federation, holding, images, plan_of, train
from tests.numerics.published_dependence import published_coco, published_hsic, published_kernel

MEASURES = ["hsic", "coco"]
LENET = {"model": LeNet(channels=2), "cut": "relu2"}


def step(rows: int = 6, dtype: torch.dtype = torch.float64) -> ClientStep:
    """Three blocks of features that hang together with nothing, so that each has a gradient of its own."""
    rng = Generator().manual_seed(0)
    shapes = {"conv1": (2, 4, 4), "relu1": (2, 4, 4), "pool1": (2, 2, 2)}
    features = {name: torch.randn((rows, *shape), generator=rng).to(dtype) for name, shape in shapes.items()}
    shown = torch.rand((rows, 1, 4, 4), generator=rng).to(dtype)
    blocks = tuple((name, output.requires_grad_()) for name, output in features.items())
    return ClientStep(shown, blocks, features["pool1"], torch.arange(rows) % 3, torch.ones(rows))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("blocks", [(), ("relu1",), ("pool1", "conv1")])
def test_it_sums_over_the_chosen_blocks_and_no_others(measure: Any, blocks: tuple[str, ...]) -> None:
    seen = step()
    defense = Bido(measure=measure, input_weight=0.3, label_weight=2.0, blocks=blocks, kernel_width=1.5)
    penalty = defense.client_penalty(seen)
    outputs = {name: output.detach().flatten(1).numpy() for name, output in seen.features}
    published = {"hsic": published_hsic, "coco": published_coco}[measure]
    x = published_kernel(seen.images.flatten(1).numpy(), 1.5)
    one_hot = torch.nn.functional.one_hot(seen.labels, 3).double().numpy()
    expected = 0.0
    for name in blocks or outputs:
        z = published_kernel(outputs[name], 1.5)
        expected += 0.3 * published(x, z) - 2.0 * published(z, one_hot @ one_hot.T)
    assert float(penalty.detach()) == pytest.approx(expected, rel=1e-7)
    penalty.backward()
    moved = {name for name, output in seen.features if output.grad is not None and output.grad.abs().sum() > 0}
    assert moved == set(blocks or outputs)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0)])
def test_alone_it_moves_every_parameter_of_the_client(measure: Any, weights: tuple[float, float]) -> None:
    defense = Bido(measure=measure, input_weight=weights[0], label_weight=weights[1])
    plan = plan_of(**LENET, defense=defense, precision="float64")
    client = Client(plan, plan.home(), holding(images(8, seed=1)), {}, Generator())
    before = {name: value.clone() for name, value in client.segment.state_dict().items()}
    crossing = client.send(client.holding)
    client.receive(CutGradient(torch.zeros_like(crossing.smashed)))
    after = client.segment.state_dict()
    # A bias of the first convolution shifts all samples alike, and so their distances only where a ReLU bends.
    assert {name for name, value in before.items() if not torch.equal(after[name], value)} >= {
        name for name in before if name.endswith("weight")
    }


@pytest.mark.parametrize(("name", "measure", "weight"), [("hsic", hsic, 0.05), ("coco", coco, 1.0)])
def test_training_with_it_makes_smashed_data_depend_less_on_the_images(
    name: Any, measure: Any, weight: float, tmp_path: Path
) -> None:
    def dependence(plan: Plan) -> float:
        protocol = SplitFedV1(rounds=15, batch_size=7)
        standing = train(tmp_path / type(plan.defense).__name__, plan, federation(), protocol).standing
        segment = plan.prepare(plan.segments().client, standing.client, training=False)
        shown = images(60, seed=50).pixels
        with torch.no_grad():
            return float(measure(gaussian_kernel(shown, 5.0), gaussian_kernel(segment(shown), 5.0)))

    # Without batch normalisation it would soon have no features left, and nothing to learn from.
    common: dict[str, Any] = {"model": LeNet(channels=2, batch_norm=True), "cut": "relu2"}
    common["optimizer"] = Adam(learning_rate=0.01)
    defense = Bido(measure=name, input_weight=weight, label_weight=0)
    assert 0.05 < dependence(plan_of(**common, defense=defense)) / dependence(plan_of(**common)) < 0.6


@pytest.mark.parametrize(("name", "measure", "goal"), [("hsic", hsic, 1.0), ("coco", coco, 0.05)])
def test_rewarded_alone_dependence_on_labels_grows_even_of_labels_drawn_at_random(
    name: Any, measure: Any, goal: float
) -> None:
    own = holding(images(30, seed=1))
    own = replace(own, labels=own.labels[torch.randperm(30, generator=Generator().manual_seed(3))])
    defense = Bido(measure=name, input_weight=0, label_weight=1.0)
    plan = plan_of(**LENET, defense=defense, optimizer=Adam(learning_rate=0.01))
    client = Client(plan, plan.home(), own, {}, Generator())

    def dependence() -> float:
        with torch.no_grad():
            smashed = gaussian_kernel(client.segment(own.pixels), 5.0)
        return float(measure(smashed, class_kernel(own.labels, torch.float32)))

    assert dependence() < 0.05 * goal
    for _ in range(30):
        client.receive(CutGradient(torch.zeros_like(client.send(own).smashed)))
    assert dependence() > goal


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("rows", [1, 2])
def test_a_batch_of_hardly_any_rows_does_no_harm(measure: Any, rows: int) -> None:
    seen = step(rows, torch.float32)
    penalty = Bido(measure=measure, input_weight=1.0, label_weight=1.0).client_penalty(seen)
    penalty.backward()
    assert penalty.dtype == torch.float32
    assert penalty.isfinite()
    assert all(output.grad is not None and output.grad.isfinite().all() for _, output in seen.features)


@pytest.mark.parametrize("measure", MEASURES)
def test_under_autocast_dependence_is_still_taken_in_single_precision(measure: Any) -> None:
    plan = plan_of(**LENET, defense=Bido(measure=measure, input_weight=1.0, label_weight=1.0), precision="bfloat16")
    client = Client(plan, plan.home(), holding(images(8, seed=1)), {}, Generator())
    crossing = client.send(client.holding)
    client.backward(CutGradient(torch.zeros_like(crossing.smashed)))
    assert client.gradients
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in client.gradients.values())


@pytest.mark.parametrize("stranger", ["hidden", "no_such"])
def test_a_block_that_is_not_the_clients_is_refused_before_any_compute(stranger: str) -> None:
    row = f"{{kind: bido, input_weight: 1, label_weight: 1, blocks: [rows, {stranger}]}}"
    with pytest.raises(ScenarioError) as refusal:
        check_cuts(tiny.scenario(f"defenses={{none: {{kind: none}}, two sides: {row}}}"), (1, 8, 8), 10)
    line = str(refusal.value)
    assert line.startswith("defenses.two sides: 'bido': acts on blocks of the client segment (rows), ")
    assert f"and {stranger} is none" in line
    assert "\n" not in line


def test_it_may_watch_what_another_member_makes_and_nothing_that_one_moves_behind_the_cut() -> None:
    made, moved = (Bido(input_weight=1.0, label_weight=1.0, blocks=(name,)) for name in ("rows_factor", "rows"))
    for members, refused in (
        ((LowRank(rank=2), made), False),
        ((made, LowRank(rank=2)), False),
        ((moved, plugins.CutBehindStem()), True),
    ):
        row = Composition(members=members)
        assert bool(row.refuses(plan_of(defense=row).segments())) is refused


def test_without_weights_it_is_refused() -> None:
    with pytest.raises(ValidationError, match="both weights are zero"):
        Bido(input_weight=0, label_weight=0)
