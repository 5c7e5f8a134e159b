from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedsplit.defenses.sca import Sca
from fedsplit.defenses.transfer_learning import TransferLearning
from fedsplit.federation.evaluation import evaluate
from fedsplit.federation.information import information
from fedsplit.federation.plan import Plan, state_of
from fedsplit.models.lenet import LeNet
from fedsplit.models.linear import Linear
from fedsplit.records.outcome import Information
from tests.defenses import plugins
from tests.federation.builders import federation, images, plan_of, train

LENET: dict[str, Any] = {"model": LeNet(channels=2, batch_norm=True), "cut": "relu2"}


def told(plan: Plan, rows: int = 20) -> dict[str, Information]:
    segments = plan.segments()
    return information(plan, [state_of(segments.home.whole)], state_of(segments.server), images(rows, seed=4))


def test_both_profiles_are_shares_of_every_block_with_parameters_but_the_last() -> None:
    found = told(plan_of(**LENET, frozen=("conv1", "norm1")))
    assert list(found) == ["conv1", "norm1", "conv2", "norm2", "dense1", "dense2"]
    assert sum(one.classification for one in found.values()) == pytest.approx(1)
    assert sum(one.inversion for one in found.values()) == pytest.approx(1)
    assert [name for name, one in found.items() if one.frozen] == ["conv1", "norm1"]
    # A frozen block is measured as any other one is.
    assert min(found["conv1"].classification, found["conv1"].inversion) > 0
    again = told(plan_of(**LENET))
    assert [(one.classification, one.inversion) for one in again.values()] == [
        (one.classification, one.inversion) for one in found.values()
    ]


def test_of_a_small_network_they_are_what_a_loop_by_hand_gives() -> None:
    plan = plan_of(model=Linear(width=4), precision="float64")
    blocks = dict(plan.segments().whole.eval().blocks())
    test = images(12, seed=4)  # fewer than are drawn: all of them
    mean = test.pixels.mean(dim=0, dtype=torch.float32).double()

    def features(image: Tensor) -> Tensor:
        return blocks["hidden"](blocks["rows"](image[None].double()))

    def squares(loss: Tensor) -> dict[str, float]:
        nn.Sequential(*blocks.values()).zero_grad()
        loss.backward()
        parts = {name: [own.grad for own in blocks[name].parameters()] for name in ("rows", "hidden")}
        return {
            name: float(sum(own.square().sum() for own in each) / sum(own.numel() for own in each))
            for name, each in parts.items()
        }

    def share(losses: list[Tensor]) -> float:
        each = [squares(loss) for loss in losses]
        rows, hidden = (sum(one[name] for one in each) for name in ("rows", "hidden"))
        return rows / (rows + hidden)

    right = [
        nn.functional.cross_entropy(blocks["logits"](features(image)), label[None])
        for image, label in zip(test.pixels, test.labels, strict=True)
    ]
    steps = [
        [
            (features(mean + step * (image - mean)) - features(image).detach()).square().sum()
            for image in test.pixels.double()
        ]
        for step in (0.0, 0.25, 0.5, 0.75)
    ]
    found = told(plan, 12)
    assert found["rows"].classification == pytest.approx(share(right), rel=1e-6)
    assert found["rows"].inversion == pytest.approx(sum(share(step) for step in steps) / 4, rel=1e-6)
    assert found["rows"].inversion != pytest.approx(found["rows"].classification, rel=1e-2)


def test_it_is_the_mean_over_clients_with_segments_of_their_own() -> None:
    plan, test = plan_of(**LENET), images(20, seed=4)
    homes = [state_of(plan_of(**LENET, seed=seed).segments().home.whole) for seed in (1, 2)]
    server = state_of(plan.segments().server)
    one, two = (information(plan, [home], server, test) for home in homes)
    both = information(plan, homes, server, test)
    for name, found in both.items():
        assert found.inversion == pytest.approx((one[name].inversion + two[name].inversion) / 2)
        assert found.classification == pytest.approx((one[name].classification + two[name].classification) / 2)
    assert one != two


def test_a_network_of_constants_has_none() -> None:
    plan = plan_of(**LENET)
    segments = plan.segments()
    dead = {name: torch.zeros_like(value) for name, value in state_of(segments.home.whole).items()}
    server = {name: torch.zeros_like(value) for name, value in state_of(segments.server).items()}
    assert information(plan, [dead], server, images(5, seed=4)) == {}


def test_a_layer_with_a_backward_pass_of_its_own_is_measured_too() -> None:
    found = told(plan_of(defense=Sca(features=(3, 4))), rows=6)
    assert found["sparse2"].inversion > 0 and found["sparse2"].classification > 0


def test_it_is_measured_where_a_warm_start_froze_something_and_leaves_no_trace(tmp_path: Path) -> None:
    data = federation()
    defense = TransferLearning(freeze="rows", epochs=1)
    evaluation = train(tmp_path / "frozen", plan_of(defense=defense), data).evaluation
    assert [(name, one.frozen) for name, one in evaluation.information.items()] == [("rows", True), ("hidden", False)]
    assert train(tmp_path / "none", plan_of(defense=plugins.Sphere(radius=1.0)), data).evaluation.information == {}
    plan = plan_of(**LENET, frozen=("conv1",))
    segments, state = plan.segments(), torch.random.get_rng_state()
    home, server = state_of(segments.home.whole), state_of(segments.server)
    before = {name: value.clone() for name, value in home.items()}
    evaluate(plan, [home], server, data.test)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in home.items())
