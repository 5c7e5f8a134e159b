from pathlib import Path

import pytest
import torch
from torch import nn

from fedsplit.defenses.sca import Sca
from fedsplit.defenses.sparse_standard import SparseStandard
from fedsplit.federation.optimizer import Adam
from fedsplit.layers.sparse_coding import SparseCodingLayer
from fedsplit.models.lenet import LeNet
from fedsplit.models.linear import Linear
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from tests.federation.builders import federation, images, plan_of, started, train

SMALL = SparseStandard(features=3, convolution=4, kernel_size=3)


def test_the_published_network_is_the_default() -> None:
    with torch.device("meta"):
        plan = plan_of(model=Linear(width=500), defense=SparseStandard(dropout=0.09), shape=(1, 28, 28), classes=6)
        segments = plan.segments()
        other = plan.model_copy(update={"defense": Sca()}).segments()
    kinds = [type(module) for _, block in segments.client.blocks() for module in block.modules()]
    assert [kind for kind in kinds if kind is not nn.Sequential] == [
        SparseCodingLayer, nn.BatchNorm2d, nn.Dropout, nn.Conv2d, nn.BatchNorm2d, nn.Dropout, nn.Linear, nn.ReLU,
    ]  # fmt: skip
    assert segments.cut_shape == other.cut_shape == (28, 28, 500)


@pytest.mark.parametrize("first_dictionary", ["random", "patches", "pretrained"])
def test_the_dictionary_stays_as_it_begins_and_all_else_learns(first_dictionary: str, tmp_path: Path) -> None:
    defense = SparseStandard.model_validate({**SMALL.model_dump(), "first_dictionary": first_dictionary})
    plan, data = plan_of(defense=defense), federation()
    _, start = started(plan, data.public)
    end = train(tmp_path, plan, data).standing.client
    still = {name for name, value in start.client.items() if torch.equal(value, end[name])}
    # Batch normalisation takes off whatever bias is before it.
    assert still - {"convolution2.bias"} == {"sparse1.dictionary"}
    fresh = plan.segments().client.state_dict()["sparse1.dictionary"]
    assert torch.equal(start.client["sparse1.dictionary"], fresh) == (first_dictionary == "random")


def test_its_codes_are_those_of_the_sparse_layer_alone() -> None:
    pixels = images(5, seed=0).pixels
    segment = plan_of(defense=SMALL).segments().client
    layer = SparseCodingLayer(1, 3, 3, lambda_=SMALL.lambda_)
    layer.load_state_dict(segment.get_submodule("sparse1").state_dict())
    codes = dict(segment.features(pixels))["sparse1"]
    least = layer.objective(pixels, layer(pixels))
    assert (layer.objective(pixels, codes) <= (1 + SMALL.tolerance) * least).all()


def test_the_convolution_may_be_left_out() -> None:
    segments = plan_of(defense=SparseStandard(features=3, convolution=0), model=Linear(width=5)).segments()
    assert segments.client.names == ("sparse1", "sparse1_norm", "rows")
    assert segments.cut_shape == (3, 8, 5)


@pytest.mark.parametrize(("model", "cut"), [(Linear(width=8), "rows"), (LeNet(channels=2, batch_norm=True), "norm1")])
def test_it_learns(model: Linear | LeNet, cut: str, tmp_path: Path) -> None:
    plan = plan_of(model=model, cut=cut, defense=SMALL, optimizer=Adam(learning_rate=0.01))
    assert train(tmp_path, plan, federation((60,)), SplitFedV1(rounds=6, batch_size=10)).accuracy > 0.9
