"""The distance against Gaussians whose distance is known, and against a matrix square root by definition."""

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from torch import Tensor

from fedsplit.numerics.frechet import frechet_distance


def rows(count: int, width: int, seed: int) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whitened(count: int, width: int, seed: int) -> Tensor:
    """Rows of mean 0 and sample covariance 1, both exactly."""
    centred = rows(count, width, seed)
    return torch.linalg.qr(centred - centred.mean(0)).Q * (count - 1) ** 0.5


def test_closed_form_of_diagonal_gaussians():
    first_std, second_std = torch.tensor([1.0, 2.0, 0.5, 0.0]).double(), torch.tensor([3.0, 2.0, 0.0, 0.0]).double()
    shift = torch.tensor([0.0, 1.0, -2.0, 5.0]).double()
    found = frechet_distance(whitened(50, 4, 0) * first_std, whitened(70, 4, 1) * second_std + shift)
    expected = float((first_std - second_std).square().sum() + shift.square().sum())
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("count", "other"), [(60, 40), (5, 6), (60, 6)], ids=["many", "few", "many and few"])
def test_the_matrix_square_root_by_definition(count: int, other: int):
    first, second = rows(count, 12, 0) @ rows(12, 12, 1), rows(other, 12, 2) @ rows(12, 12, 3) + 1
    one, two = torch.cov(first.T), torch.cov(second.T)
    # Covariances of low rank are lifted off zero, since the square root by definition is unstable there.
    root = torch.tensor(numpy.real(sqrtm((one + 1e-10 * torch.eye(12)).numpy() @ two.numpy())))
    shift = (first.mean(0) - second.mean(0)).square().sum()
    assert frechet_distance(first, second) == pytest.approx(float(shift + (one + two - 2 * root).trace()), rel=1e-4)


@given(count=st.integers(2, 30), width=st.integers(1, 12), seed=st.integers(0, 10**6))
@settings(max_examples=30)
def test_a_symmetric_distance(count: int, width: int, seed: int):
    first, second = rows(count, width, seed), rows(count + 3, width, seed + 1)
    forth, back = frechet_distance(first, second), frechet_distance(second, first)
    assert frechet_distance(first, first.flip(0)) == pytest.approx(0, abs=1e-9)
    assert forth == pytest.approx(back, abs=1e-9)
    assert forth >= float((first.mean(0) - second.mean(0)).square().sum()) - 1e-9


def test_a_single_row_has_no_spread():
    assert frechet_distance(torch.zeros(1, 3), torch.ones(1, 3)) == pytest.approx(3)


def test_agrees_with_torchmetrics():
    fid = pytest.importorskip("torchmetrics.image.fid")
    first, second = rows(80, 10, 0), rows(90, 10, 1) * 2 + 1
    expected = fid._compute_fid(first.mean(0), torch.cov(first.T), second.mean(0), torch.cov(second.T))
    assert frechet_distance(first, second) == pytest.approx(float(expected), rel=1e-9)
