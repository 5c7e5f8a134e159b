from collections import OrderedDict
from functools import partial

import pytest
import torch
from torch import nn

from fedsplit.errors import ScenarioError
from fedsplit.layers.stem import Stage, Stem, normalised
from fedsplit.records.images import Shape


def convolution(features: int, stride: int, channels: int) -> nn.Module:
    return nn.Conv2d(channels, features, 3, stride, padding=1)


def stem(*features: int, stride: int = 1, dropout: float = 0.0) -> Stem:
    stages = [
        Stage(f"stage{place}", count, partial(convolution, count, stride)) for place, count in enumerate(features)
    ]
    return Stem(tuple(stages), stride, dropout)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 7), (2, 5, 1)])
def test_the_model_is_asked_for_the_shape_that_the_stages_give(shape: Shape, stride: int) -> None:
    asked: list[Shape] = []

    def model(behind: Shape) -> "OrderedDict[str, nn.Module]":
        asked.append(behind)
        return OrderedDict(own=nn.Identity())

    blocks = stem(4, 5, stride=stride).before(model, shape)
    assert list(blocks) == ["stage0", "stage0_norm", "stage1", "stage1_norm", "own"]
    with torch.no_grad():
        assert nn.Sequential(blocks)(torch.randn(2, *shape)).shape[1:] == asked[0]


def test_dropout_stands_behind_the_normalisation() -> None:
    blocks = stem(4, dropout=0.25).before(lambda _: OrderedDict(), (1, 8, 8))
    norm, dropout = blocks[normalised("stage0")].children()
    assert isinstance(norm, nn.BatchNorm2d)
    assert isinstance(dropout, nn.Dropout)
    assert dropout.p == 0.25


def test_a_name_that_the_model_has_too_is_refused() -> None:
    with pytest.raises(ScenarioError, match="stage0_norm"):
        stem(4).before(lambda _: OrderedDict(stage0_norm=nn.Identity()), (1, 8, 8))


def test_own_blocks_can_give_way_to_the_stages() -> None:
    asked: list[Shape] = []

    def model(shape: Shape) -> "OrderedDict[str, nn.Module]":
        asked.append(shape)
        return OrderedDict((name, nn.Identity()) for name in ("conv1", "relu1", "conv2", "logits"))

    one = Stem(stem(4).stages, replaces="relu1")
    assert list(one.before(model, (3, 8, 8))) == ["stage0", "stage0_norm", "conv2", "logits"]
    assert asked == [(3, 8, 8)]
    for wrong in ("logits", "conv3"):
        with pytest.raises(ScenarioError, match="no block of this name to replace"):
            Stem(stem(4).stages, replaces=wrong).before(model, (3, 8, 8))
