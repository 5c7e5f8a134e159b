from collections import OrderedDict

import pytest
import torch
from torch import nn

from fedsplit.errors import ScenarioError
from fedsplit.models.lenet import LeNet
from fedsplit.models.linear import Linear
from fedsplit.records.images import Shape
from fedsplit.split import Segment, split

MODELS = [Linear(width=4), LeNet(channels=2), LeNet(channels=2, batch_norm=True)]
SHAPES: list[Shape] = [(1, 8, 8), (3, 12, 9)]


class Repeated(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.repeat(2, *([1] * (inputs.dim() - 1)))


@pytest.fixture(params=MODELS, ids=lambda model: f"{model.kind}-{getattr(model, 'batch_norm', '')}")
def model(request: pytest.FixtureRequest):
    return request.param


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_cut_covers_the_model_and_loses_nothing(model, shape: Shape) -> None:
    blocks = model.blocks(shape, 5)
    whole = nn.Sequential(blocks).eval()
    inputs = torch.rand((4, *shape))
    for cut in list(blocks)[:-1]:
        segments = split(blocks, cut, shape)
        smashed = segments.client.eval()(inputs)
        assert segments.client.names[-1] == cut
        assert segments.client.names + segments.server.names == tuple(blocks)
        assert smashed.shape == (4, *segments.cut_shape)
        assert torch.equal(segments.server.eval()(smashed), whole(inputs))
        states = {**segments.client.state_dict(), **segments.server.state_dict()}
        assert list(states) == list(whole.state_dict())
        assert all(
            states[name] is not None and torch.equal(states[name], value) for name, value in whole.state_dict().items()
        )


def test_every_cut_and_head_covers_the_model_and_loses_nothing(model) -> None:
    blocks = model.blocks((1, 8, 8), 5)
    names, whole, inputs = list(blocks), nn.Sequential(blocks).eval(), torch.rand(4, 1, 8, 8)
    for first, cut in enumerate(names[:-2]):
        for head in names[first + 2 :]:
            segments = split(blocks, cut, (1, 8, 8), head)
            assert segments.head is not None
            assert segments.whole.names == tuple(names)
            assert segments.home.whole.names == segments.client.names + segments.head.names
            assert segments.head.names[0] == head
            answers = segments.head.eval()(segments.server.eval()(segments.client.eval()(inputs)))
            assert torch.equal(answers, whole(inputs))
            # One set of modules, seen in parts.
            assert all(part is blocks[name] for name, part in segments.home.whole.blocks())


def test_a_client_without_a_head_holds_its_segment_alone(model) -> None:
    segments = split(model.blocks((1, 8, 8), 5), next(iter(model.blocks((1, 8, 8), 5))), (1, 8, 8))
    assert segments.head is None
    assert segments.home.whole is segments.client


def test_features_are_the_outputs_of_every_block(model) -> None:
    blocks = model.blocks((1, 8, 8), 3)
    segment = Segment(blocks).eval()
    inputs = torch.rand(2, 1, 8, 8)
    features = segment.features(inputs)
    assert [name for name, _ in features] == list(blocks)
    assert torch.equal(features[-1][1], segment(inputs))
    expected = inputs
    for (_, found), block in zip(features, blocks.values(), strict=True):
        expected = block(expected)
        assert torch.equal(found, expected)


def test_looking_for_the_shape_leaves_no_trace(model) -> None:
    blocks = model.blocks((1, 8, 8), 3)
    nn.Sequential(blocks).train()
    list(blocks.values())[1].eval()
    before = {name: value.clone() for name, value in nn.Sequential(blocks).state_dict().items()}
    modes = [module.training for block in blocks.values() for module in block.modules()]
    state = torch.random.get_rng_state()
    split(blocks, next(iter(blocks)), (1, 8, 8))
    assert all(torch.equal(before[name], value) for name, value in nn.Sequential(blocks).state_dict().items())
    assert [module.training for block in blocks.values() for module in block.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_cut_may_be_tried_out_without_memory(model) -> None:
    with torch.device("meta"):
        segments = split(model.blocks((1, 8, 8), 3), next(iter(model.blocks((1, 8, 8), 3))), (1, 8, 8))
    assert all(parameter.is_meta for parameter in segments.client.parameters())
    assert segments.cut_shape == split(model.blocks((1, 8, 8), 3), segments.client.names[-1], (1, 8, 8)).cut_shape


def test_a_huge_model_can_be_refused_or_not_without_memory() -> None:
    with torch.device("meta"):
        blocks = Linear(width=2_000_000).blocks((3, 1000, 1000), 10)
        assert split(blocks, "rows", (3, 1000, 1000)).cut_shape == (3, 1000, 2_000_000)


def test_float64_models_are_cut_too(model) -> None:
    blocks = OrderedDict((name, block.double()) for name, block in model.blocks((1, 8, 8), 3).items())
    assert split(blocks, next(iter(blocks)), (1, 8, 8)).cut_shape


def chain(**blocks: nn.Module) -> "OrderedDict[str, nn.Module]":
    return OrderedDict(blocks)


@pytest.mark.parametrize(
    ("blocks", "cut", "fragment"),
    [
        (chain(a=nn.Flatten(), b=nn.Linear(64, 3)), "c", "cut: 'c': no block of this name; use one of a"),
        (chain(a=nn.Flatten(), b=nn.Linear(64, 3)), "", "no block of this name"),
        (chain(a=nn.Flatten(), b=nn.Linear(64, 3)), "b", "leaves the server no block"),
        (chain(a=nn.Linear(64, 3)), "a", "one block alone"),
        (chain(a=nn.Linear(64, 3)), "b", "one block alone"),
        (chain(a=nn.Flatten(), b=nn.Linear(63, 3)), "a", "does not fit images of shape (1, 8, 8)"),
        (chain(a=nn.Flatten(), b=nn.Conv2d(1, 1, 3)), "a", "does not fit images of shape (1, 8, 8)"),
        (chain(a=nn.Flatten(), b=nn.BatchNorm2d(1)), "a", "does not fit images of shape (1, 8, 8)"),
        (chain(a=nn.Flatten(), b=nn.Flatten(start_dim=5)), "a", "does not fit images of shape (1, 8, 8)"),
        (chain(a=nn.LSTM(8, 2), b=nn.Linear(64, 3)), "a", "does not fit images of shape (1, 8, 8)"),
        (chain(a=Repeated(), b=nn.Flatten()), "a", "changes the number of samples"),
    ],
)
def test_impossible_cuts_are_refused_in_one_line(blocks, cut: str, fragment: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        split(blocks, cut, (1, 8, 8))
    assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy
