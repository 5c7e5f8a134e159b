import itertools

import pytest
import torch
from torch import nn

from fedsplit.models.convolutional import Convolutional
from fedsplit.split import split


def test_parameters_are_those_of_the_published_network() -> None:
    with torch.device("meta"):
        blocks = Convolutional().blocks((3, 32, 32), 10)
    counts = {name: sum(parameter.numel() for parameter in block.parameters()) for name, block in blocks.items()}
    widths = (3, 16, 32, 64, 128, 256)
    convolutions = {
        f"conv{stage}": inputs * outputs * 25 + outputs
        for stage, (inputs, outputs) in enumerate(itertools.pairwise(widths), start=1)
    }
    norms = {f"norm{stage}": 2 * width for stage, width in enumerate(widths[1:], start=1)}
    dense = {"dense": 1024 * 512 + 512, "logits": 512 * 10 + 10}
    assert {name: count for name, count in counts.items() if count} == convolutions | norms | dense


def test_the_published_cut_has_the_published_shape() -> None:
    with torch.device("meta"):
        assert split(Convolutional().blocks((3, 32, 32), 10), "norm2", (3, 32, 32)).cut_shape == (32, 16, 16)
        assert split(Convolutional().blocks((3, 32, 32), 10), "norm5", (3, 32, 32)).cut_shape == (256, 2, 2)


@pytest.mark.parametrize("size", [4, 7, 8, 28, 33])
def test_any_image_size_fits(size: int) -> None:
    blocks = Convolutional(features=(2, 3, 4)).blocks((1, size, size + 1), 4)
    assert nn.Sequential(blocks).eval()(torch.rand(2, 1, size, size + 1)).shape == (2, 4)
