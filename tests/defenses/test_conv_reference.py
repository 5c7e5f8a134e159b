from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from fedsplit.defenses.composition import Composition
from fedsplit.defenses.conv_reference import ConvReference
from fedsplit.defenses.low_rank import LowRank
from fedsplit.defenses.sca import Sca
from fedsplit.federation.optimizer import Adam
from fedsplit.models.lenet import LeNet
from fedsplit.models.linear import Linear
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from tests.federation.builders import SHAPE, federation, images, plan_of, train

PLACES = [(Linear(width=6), "rows"), (Linear(width=6), "hidden"), (LeNet(channels=2), "pool1")]
IDS = [f"{model.kind}-{cut}" for model, cut in PLACES]
SMALL = ConvReference(features=(3, 4), kernel_size=3)


@pytest.mark.parametrize(("model", "cut"), PLACES, ids=IDS)
@pytest.mark.parametrize(("kernel_size", "stride"), [(3, 1), (5, 2)])
def test_every_block_has_the_shape_that_sparse_coding_gives(model, cut: str, kernel_size, stride: int) -> None:
    size = {"features": (3, 4), "kernel_size": kernel_size, "stride": stride, "dropout": 0.1}
    found, sparse = (
        plan_of(model=model, cut=cut, defense=defense).segments() for defense in (ConvReference(**size), Sca(**size))
    )
    assert found.cut_shape == sparse.cut_shape
    pixels = torch.rand((2, *SHAPE))
    for (name, one), (other_name, other) in zip(
        found.client.features(pixels), sparse.client.features(pixels), strict=True
    ):
        assert one.shape == other.shape
        assert name == other_name.replace("sparse", "reference")


@pytest.mark.parametrize(("model", "cut"), PLACES, ids=IDS)
def test_what_is_not_a_stage_begins_as_with_sparse_coding(model, cut: str) -> None:
    found, sparse = (
        plan_of(model=model, cut=cut, defense=defense).segments()
        for defense in (SMALL, Sca(features=(3, 4), kernel_size=3))
    )
    for one, other in ((found.client, sparse.client), (found.server, sparse.server)):
        states = one.state_dict(), other.state_dict()
        shared = states[0].keys() & states[1].keys()
        assert shared == {name for name in states[0] if not name.startswith("reference")}
        assert all(torch.equal(states[0][name], states[1][name]) for name in shared)


def test_a_stage_is_a_convolution_a_rectifier_and_a_normalisation() -> None:
    segment = plan_of(defense=SMALL, precision="float64").segments().client.eval()
    pixels = images(4, seed=0).pixels.double()
    state, outputs = segment.state_dict(), dict(segment.features(pixels))
    convolved = functional.conv2d(pixels, state["reference1.0.weight"], state["reference1.0.bias"], padding=1)
    assert torch.equal(outputs["reference1"], convolved.clamp(min=0))
    assert isinstance(segment.get_submodule("reference1_norm"), nn.BatchNorm2d)


def test_it_composes_with_a_defense(tmp_path: Path) -> None:
    row = Composition(members=(SMALL, LowRank(rank=6)))
    plan = plan_of(model=Linear(width=8), defense=row, optimizer=Adam(learning_rate=0.01))
    assert plan.segments().cut_shape == (6,)
    assert train(tmp_path, plan, federation((60,)), SplitFedV1(rounds=4, batch_size=10)).accuracy > 0.9
