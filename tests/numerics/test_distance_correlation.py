import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from fedsplit.numerics.distance_correlation import distance_correlation


def points(count: int, size: int, seed: int) -> Tensor:
    return torch.randn(count, size, generator=Generator().manual_seed(seed), dtype=torch.float64)


def by_pairs(one: Tensor, other: Tensor, power: int) -> float:
    """The definition, pair by pair."""

    def centred(rows: Tensor) -> Tensor:
        count = len(rows)
        matrix = torch.zeros(count, count, dtype=torch.float64)
        for left in range(count):
            for right in range(count):
                matrix[left, right] = (rows[left] - rows[right]).norm() ** power
        mean = torch.full((count, count), 1 / count, dtype=torch.float64)
        keep = torch.eye(count, dtype=torch.float64) - mean
        return keep @ matrix @ keep

    def covariance(left: Tensor, right: Tensor) -> float:
        return float((left * right).sum().sqrt()) / len(left)

    a, b = centred(one), centred(other)
    return covariance(a, b) / (covariance(a, a) * covariance(b, b)) ** 0.5


@given(st.integers(2, 9), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.integers(0, 100))
def test_it_is_what_the_definition_says(count: int, left: int, right: int, squared: bool, seed: int) -> None:
    one, other = points(count, left, seed), points(count, right, seed + 1)
    found = distance_correlation(one, other, squared=squared)
    assert float(found) == pytest.approx(by_pairs(one, other, 2 if squared else 1), rel=1e-9)
    assert 0 <= found <= 1 + 1e-12


@pytest.mark.parametrize("squared", [False, True])
def test_moved_turned_and_scaled_points_depend_wholly(squared: bool) -> None:
    one = points(20, 3, 0)
    turn = torch.linalg.qr(points(3, 3, 1)).Q
    assert float(distance_correlation(one, 5 + 0.01 * one @ turn, squared=squared)) == pytest.approx(1, abs=1e-9)


def test_squared_distances_do_not_see_what_is_not_linear() -> None:
    one = torch.linspace(-1, 1, 101, dtype=torch.float64)[:, None]
    assert distance_correlation(one, one**2) > 0.4
    assert distance_correlation(one, one**2, squared=True) < 1e-6


def test_independent_points_depend_little() -> None:
    assert distance_correlation(points(1000, 1, 2), points(1000, 1, 3)) < 0.1


@pytest.mark.parametrize("other", [torch.zeros(6, 2), torch.zeros(6, 2).index_fill(0, torch.tensor([1]), 1.0)])
def test_points_that_fall_together_give_finite_gradients(other: Tensor) -> None:
    moved = other.double().requires_grad_()
    found = distance_correlation(points(6, 3, 4), moved)
    found.backward()
    assert found < 1
    assert moved.grad is not None
    assert moved.grad.isfinite().all()


@pytest.mark.parametrize("squared", [False, True])
def test_its_gradient_is_that_of_its_value(squared: bool) -> None:
    one, other = (points(5, 3, seed).requires_grad_() for seed in (5, 6))
    assert torch.autograd.gradcheck(lambda a, b: distance_correlation(a, b, squared=squared), (one, other))
