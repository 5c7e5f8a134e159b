import pytest
import torch
from torch import nn

from fedsplit.models.lenet import LeNet
from fedsplit.split import split


def test_parameters_are_those_of_the_classic_network() -> None:
    with torch.device("meta"):
        blocks = LeNet().blocks((1, 28, 28), 10)
    counts = {name: sum(parameter.numel() for parameter in block.parameters()) for name, block in blocks.items()}
    expected = {
        "conv1": 6 * 25 + 6, "conv2": 16 * 6 * 25 + 16,
        "dense1": 16 * 7 * 7 * 120 + 120, "dense2": 120 * 84 + 84, "logits": 84 * 10 + 10,
    }  # fmt: skip
    assert {name: count for name, count in counts.items() if count} == expected


def test_block_names_are_those_of_the_docstring() -> None:
    names = ["conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "dense1", "dense2", "logits"]
    assert list(LeNet().blocks((1, 8, 8), 3)) == names
    normalised = list(LeNet(batch_norm=True).blocks((1, 8, 8), 3))
    assert [name for name in normalised if not name.startswith("norm")] == names
    assert normalised[1] == "norm1"
    assert normalised[5] == "norm2"


@pytest.mark.parametrize(("channels", "second"), [(1, 2), (3, 8), (6, 16), (12, 32)])
def test_the_second_convolution_grows_with_the_first(channels: int, second: int) -> None:
    blocks = LeNet(channels=channels, batch_norm=True).blocks((3, 9, 9), 3)
    assert isinstance(blocks["norm2"], nn.BatchNorm2d)
    assert blocks["norm2"].num_features == second
    assert split(blocks, "conv2", (3, 9, 9)).cut_shape == (second, 5, 5)


@pytest.mark.parametrize("size", [1, 2, 5, 7, 8, 28, 33])
def test_any_image_size_fits(size: int) -> None:
    blocks = LeNet(channels=2).blocks((1, size, size + 1), 4)
    assert nn.Sequential(blocks)(torch.rand(2, 1, size, size + 1)).shape == (2, 4)
