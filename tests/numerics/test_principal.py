import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from torch import Generator, Tensor

from fedsplit.numerics.principal import principal_components


def rows(count: int, width: int, seed: int = 0) -> Tensor:
    """Vectors of unequal spread in every direction, away from the origin."""
    rng = Generator().manual_seed(seed)
    spread = torch.randn(width, width, generator=rng, dtype=torch.float64)
    return torch.randn(count, width, generator=rng, dtype=torch.float64) @ spread + 3


@settings(max_examples=40)
@given(st.integers(2, 40), st.integers(1, 40), st.integers(1, 6), st.integers(0, 5))
def test_it_is_the_projection_that_scikit_learn_finds(count: int, width: int, kept: int, seed: int) -> None:
    data = rows(count, width, seed)
    found = principal_components(data, kept)
    known = min(kept, count - 1, width)
    expected = torch.from_numpy(PCA(known, svd_solver="full").fit_transform(data.numpy()))
    signs = (found[:, :known] * expected).sum(0).sign()
    torch.testing.assert_close(found[:, :known], expected * signs, rtol=1e-5, atol=1e-6)
    assert not found[:, known:].any()


@pytest.mark.parametrize(("count", "width"), [(30, 200), (200, 30), (25, 25)])
def test_the_sign_hangs_on_the_axis_alone(count: int, width: int) -> None:
    data = rows(count, width)
    found = principal_components(data, 3)
    order = torch.randperm(count, generator=Generator().manual_seed(1))
    torch.testing.assert_close(principal_components(data[order], 3), found[order])
    torch.testing.assert_close(principal_components(data + 7, 3), found)
    assert torch.equal(principal_components(data, 3), found)
    axes = torch.linalg.lstsq(data - data.mean(0), found).solution
    heaviest = axes.abs().argmax(0)
    assert all(float(axes[at, number]) > 0 for number, at in enumerate(heaviest))


@settings(max_examples=20)
@given(st.integers(2, 30), st.integers(1, 30), st.integers(0, 5))
def test_rows_are_projected_on_the_axes_of_others(count: int, width: int, seed: int) -> None:
    others, data = rows(count, width, seed), rows(7, width, seed + 100) + 2
    known = min(3, count - 1, width)
    reference = PCA(known, svd_solver="full").fit(others.numpy())
    signs = (principal_components(others, known) * torch.from_numpy(reference.transform(others.numpy()))).sum(0).sign()
    expected = torch.from_numpy(reference.transform(data.numpy())) * signs
    torch.testing.assert_close(principal_components(data, 3, others)[:, :known], expected, rtol=1e-5, atol=1e-5)
    both = principal_components(torch.cat([others, data]), 3, others)
    torch.testing.assert_close(both[:count], principal_components(others, 3))


def test_many_rows_are_projected_on_nearly_the_best_axes() -> None:
    data = rows(4500, 20)
    best = torch.from_numpy(PCA(2, svd_solver="full").fit_transform(data.numpy()))
    found = principal_components(data, 2)
    assert found.shape == (4500, 2)
    assert float(found.var(0).sum()) > 0.99 * float(best.var(0).sum())


def test_few_or_equal_rows_are_one_point() -> None:
    assert not principal_components(torch.ones(1, 5), 2).any()
    assert not principal_components(torch.ones(8, 5), 2).any()


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_what_is_not_finite_has_no_map(odd: float) -> None:
    data = rows(9, 4)
    data[3, 2] = odd
    assert principal_components(data, 2).isnan().all()
    assert principal_components(data, 2, rows(9, 4)).isnan().all()
    assert principal_components(rows(9, 4), 2, data).isnan().all()
