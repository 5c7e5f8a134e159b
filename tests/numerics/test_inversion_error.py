import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from fedsplit.numerics.inversion_error import ideal_inversion_error


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def covariance(size: int, seed: int) -> Tensor:
    factor = drawn(size, size, seed=seed)
    return factor @ factor.T / size


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("rank", [1, 4, 7])
def test_least_squares_on_many_gaussian_draws_comes_to_it(rank: int, noise: float) -> None:
    size, count = 7, 60_000
    factor = drawn(size, size, seed=1)
    images = drawn(count, size, seed=2) @ factor.T
    weight = drawn(rank, size, seed=3)
    seen = images @ weight.T + noise**0.5 * drawn(count, rank, seed=4)
    solution = torch.linalg.lstsq(seen, images).solution
    found = (seen @ solution - images).square().mean()
    expected = ideal_inversion_error(weight, factor @ factor.T, noise)
    assert expected == pytest.approx(float(found), rel=0.03, abs=1e-12)


@given(st.integers(1, 9), st.integers(1, 12), st.floats(0, 2), st.integers(0, 99))
@settings(max_examples=40)
def test_it_is_the_formula(size: int, crossing: int, noise: float, seed: int) -> None:
    weight, spread = drawn(crossing, size, seed=seed), covariance(size, seed + 100)
    middle = weight @ spread @ weight.T + noise * torch.eye(crossing, dtype=torch.float64)
    explained = spread @ weight.T @ torch.linalg.pinv(middle, hermitian=True, rtol=1e-12) @ weight @ spread
    expected = float((spread.trace() - explained.trace()) / size)
    assert ideal_inversion_error(weight, spread, noise) == pytest.approx(expected, rel=1e-5, abs=1e-8)


@given(st.floats(0.1, 3), st.integers(0, 99))
@settings(max_examples=20)
def test_each_independent_row_lowers_it_by_the_variance_and_a_dependent_one_by_nothing(s: float, seed: int) -> None:
    size = 6
    spread, rows = s**2 * torch.eye(size, dtype=torch.float64), drawn(size, size, seed=seed)
    errors = [ideal_inversion_error(rows[:count], spread) * size for count in range(1, size + 1)]
    assert errors == pytest.approx([s**2 * (size - count) for count in range(1, size + 1)], abs=1e-9 * s**2)
    more = torch.cat([rows[:3], rows[:3].sum(dim=0, keepdim=True), 2 * rows[1:2]])
    assert ideal_inversion_error(more, spread) * size == pytest.approx(errors[2], abs=1e-9 * s**2)


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_the_first_principal_axes_leave_the_other_variances_and_no_map_of_that_rank_less(rank: int) -> None:
    spread = covariance(6, seed=5)
    values, axes = torch.linalg.eigh(spread)
    least = ideal_inversion_error(axes[:, -rank:].T, spread)
    assert least == pytest.approx(float(values[:-rank].sum()) / 6)
    assert all(ideal_inversion_error(drawn(rank, 6, seed=seed), spread) > least for seed in range(20))


def test_faint_rows_tell_as_much_as_strong_ones_without_noise_and_less_with_it() -> None:
    weight, spread = drawn(3, 6, seed=7), covariance(6, seed=8)
    mixed = weight * torch.tensor([[1.0], [1e-5], [1e4]], dtype=torch.float64)
    assert ideal_inversion_error(mixed, spread) == pytest.approx(ideal_inversion_error(weight, spread))
    assert ideal_inversion_error(1e-5 * weight, spread, 1.0) == pytest.approx(float(spread.trace()) / 6, rel=1e-6)


def test_what_says_nothing_leaves_all_and_what_varies_nowhere_has_no_error() -> None:
    spread = covariance(4, seed=9)
    nothing = torch.zeros(2, 4, dtype=torch.float64)
    assert ideal_inversion_error(nothing, spread) == pytest.approx(float(spread.trace()) / 4)
    assert ideal_inversion_error(nothing, spread, 0.1) == pytest.approx(float(spread.trace()) / 4)
    assert ideal_inversion_error(drawn(2, 4, seed=1), torch.zeros(4, 4)) == 0
