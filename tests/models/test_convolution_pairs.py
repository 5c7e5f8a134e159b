"""The network of He, Zhang and Lee for CIFAR-10."""

import itertools

import pytest
import torch

from fedsplit.models.convolution_pairs import ConvolutionPairs
from fedsplit.split import split


def test_parameters_are_those_of_three_by_three_convolutions() -> None:
    with torch.device("meta"):
        blocks = ConvolutionPairs().blocks((3, 32, 32), 10)
    counts = {name: sum(parameter.numel() for parameter in block.parameters()) for name, block in blocks.items()}
    widths = itertools.pairwise((3, 64, 64, 128, 128, 128, 128))
    names = [f"conv{stage}{place}" for stage, place in itertools.product((1, 2, 3), (1, 2))]
    convolutions = {name: 9 * before * after + after for name, (before, after) in zip(names, widths, strict=True)}
    dense = {"dense": 128 * 4 * 4 * 512 + 512, "logits": 512 * 10 + 10}
    assert {name: count for name, count in counts.items() if count} == convolutions | dense


@pytest.mark.parametrize(
    ("cut", "shape"), [("conv11", (64, 32, 32)), ("relu22", (128, 16, 16)), ("relu32", (128, 8, 8))]
)
def test_published_cuts_have_their_shapes(cut: str, shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        assert split(ConvolutionPairs().blocks((3, 32, 32), 10), cut, (3, 32, 32)).cut_shape == shape
