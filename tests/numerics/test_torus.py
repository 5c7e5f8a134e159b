"""Maps of planes by frequency, against the same maps place by place."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from torch import Tensor
from torch.nn import functional as F

from fedsplit.numerics.torus import filtered, inverted, symbol_of
from fedsplit.seeding import Seeds


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Seeds(seed)("planes"), dtype=torch.float64)


def around(planes: Tensor, kernels: Tensor) -> Tensor:
    """Convolved on the torus."""
    reach = kernels.shape[-1] // 2
    return F.conv2d(F.pad(planes, (reach,) * 4, mode="circular"), kernels)


@given(channels=some.integers(1, 3), height=some.integers(3, 8), width=some.integers(3, 8), seed=some.integers(0, 99))
def test_a_map_that_is_alike_everywhere_is_its_symbol(channels: int, height: int, width: int, seed: int):
    kernels = normal(channels, channels, 3, 3, seed=seed)
    symbol = symbol_of(lambda planes: around(planes, kernels), (channels, height, width), kernels)
    planes = normal(4, channels, height, width, seed=seed + 1)
    torch.testing.assert_close(filtered(planes, symbol), around(planes, kernels), rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [(6, 6), (7, 9)])
def test_the_inverse_undoes_it(size: tuple[int, int]):
    kernels, planes = normal(4, 2, 3, 3), normal(5, 2, *size, seed=1)

    def definite(planes: Tensor) -> Tensor:
        return around(around(planes, kernels), kernels.transpose(0, 1).flip(2, 3)) + 0.1 * planes

    symbol = symbol_of(definite, (2, *size), kernels)
    torch.testing.assert_close(filtered(definite(planes), inverted(symbol)), planes, rtol=0, atol=1e-9)
    coarse = filtered(planes.float(), inverted(symbol))
    assert coarse.dtype == torch.float32


def test_borders_do_not_count():
    kernels = normal(2, 2, 3, 3)
    bordered = symbol_of(lambda planes: F.conv2d(planes, kernels, padding=1), (2, 9, 9), kernels)
    torch.testing.assert_close(bordered, symbol_of(lambda planes: around(planes, kernels), (2, 9, 9), kernels))
