"""Conjugate gradients on the active atoms against dense least squares on their columns."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings, strategies
from torch import Tensor

from fedsplit.numerics.active_set import ActiveSet, conjugate_gradients
from fedsplit.numerics.dictionary import Dictionary, normalised
from fedsplit.seeding import Seeds
from tests.numerics.unrolled import unrolled


def dictionary_of(
    features: int = 4, channels: int = 1, stride: int = 1, padding: int = 1, size: tuple[int, int] = (8, 8)
) -> Dictionary:
    atoms = torch.randn(features, channels, 3, 3, generator=Seeds(0)("atoms"), dtype=torch.float64)
    return Dictionary(normalised(atoms), size, stride, padding)


def draw(dictionary: Dictionary, share: float, count: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Which are active, and a right-hand side."""
    rng = Seeds(seed)("active")
    shape = (count, *dictionary.codes)
    active = torch.rand(shape, generator=rng) < share
    return active, torch.randn(shape, generator=rng, dtype=torch.float64)


DICTIONARIES = [
    dictionary_of(),
    dictionary_of(padding=0),
    dictionary_of(features=6, channels=3, stride=2),
    dictionary_of(padding=0, stride=2, size=(9, 7)),
]


@pytest.mark.parametrize("dictionary", DICTIONARIES, ids=["same", "valid", "strided", "odd"])
def test_the_solution_is_that_of_the_columns_of_the_active_atoms(dictionary: Dictionary):
    active, right = draw(dictionary, 0.1)
    solution = ActiveSet(dictionary, active).solve(right)
    matrix = unrolled(dictionary)
    assert (solution[~active] == 0).all()
    for one, own, side in zip(solution.flatten(1), active.flatten(1), right.flatten(1), strict=True):
        assert own.any()
        columns = matrix[:, own]
        expected = torch.linalg.solve(columns.T @ columns, side[own])
        torch.testing.assert_close(one[own], expected, rtol=0, atol=1e-8)


def test_what_is_not_active_on_the_right_changes_nothing():
    dictionary = dictionary_of()
    active, right = draw(dictionary, 0.1)
    equations = ActiveSet(dictionary, active)
    torch.testing.assert_close(equations.solve(right), equations.solve(right * active), rtol=0, atol=0)


@pytest.mark.parametrize(("tolerance", "reached"), [(None, 1e-3), (1e-4, 1e-4)])
def test_float32_is_solved_to_its_tolerance(tolerance: float | None, reached: float):
    dictionary = dictionary_of()
    active, right = draw(dictionary, 0.1)
    single = Dictionary(dictionary.atoms.float(), dictionary.size, 1, 1)
    solution = ActiveSet(single, active, tolerance).solve(right.float())
    left = single.correlate(single.synthesise(solution)) * active - right.float() * active
    assert solution.dtype == torch.float32
    assert (left.flatten(1).norm(dim=1) <= 1.01 * reached * (right * active).flatten(1).norm(dim=1)).all()


def test_more_active_atoms_than_pixels_are_solved_where_there_is_a_solution():
    dictionary = dictionary_of()
    active, weights = draw(dictionary, 0.9)
    assert active[0].sum() > 64
    right = dictionary.correlate(dictionary.synthesise(weights * active))
    solution = ActiveSet(dictionary, active, iterations=2000).solve(right)
    assert (solution[~active] == 0).all()
    # Many are solutions; what they stand for is one.
    torch.testing.assert_close(
        dictionary.synthesise(solution), dictionary.synthesise(weights * active), rtol=0, atol=1e-6
    )


def test_where_there_is_no_solution_the_iterations_end_finite():
    dictionary = dictionary_of()
    active, right = draw(dictionary, 0.9)
    assert ActiveSet(dictionary, active).solve(right).isfinite().all()


def test_a_sample_without_active_atoms_is_zero_and_disturbs_no_other():
    dictionary = dictionary_of()
    active, right = draw(dictionary, 0.1)
    active[1] = False
    solution = ActiveSet(dictionary, active).solve(right)
    assert (solution[1] == 0).all()
    alone = ActiveSet(dictionary, active[:1]).solve(right[:1])
    torch.testing.assert_close(solution[:1], alone, rtol=0, atol=1e-9)
    nothing = torch.zeros_like(active)
    assert (ActiveSet(dictionary, nothing).solve(right) == 0).all()


def test_no_graph_is_kept():
    dictionary = dictionary_of()
    active, right = draw(dictionary, 0.1)
    assert not ActiveSet(dictionary, active).solve(right.requires_grad_()).requires_grad


def systems(size: int, seed: int, rank: int | None = None) -> Tensor:
    """Three symmetric matrices (3, size, size), positive definite where the rank is full."""
    factor = torch.randn(3, size, rank or size, generator=Seeds(seed)("factor"), dtype=torch.float64)
    identity = torch.eye(size, dtype=torch.float64)
    return factor @ factor.mT + (identity if rank is None else 0)


@settings(max_examples=25)
@given(size=strategies.integers(1, 12), seed=strategies.integers(0, 100))
def test_as_many_iterations_as_unknowns_are_enough(size: int, seed: int):
    matrices = systems(size, seed)
    right = torch.randn(3, size, generator=Seeds(seed)("right"), dtype=torch.float64)
    solution = conjugate_gradients(lambda v: torch.einsum("nij,nj->ni", matrices, v), right, 1e-14, size)
    torch.testing.assert_close(solution, torch.linalg.solve(matrices, right), rtol=0, atol=1e-6)


def test_from_a_start_the_iterations_lead_to_the_same():
    matrices = systems(6, 0)
    right, start = torch.randn(2, 3, 6, generator=Seeds(0)("right"), dtype=torch.float64)
    solved = torch.linalg.solve(matrices, right)

    def product(values: Tensor) -> Tensor:
        return torch.einsum("nij,nj->ni", matrices, values)

    torch.testing.assert_close(conjugate_gradients(product, right, 1e-12, 20, start), solved, rtol=0, atol=1e-9)
    assert torch.equal(conjugate_gradients(product, right, 1e-6, 20, solved), solved)
    untouched = start.clone()
    conjugate_gradients(product, right, 1e-6, 1, start)
    assert torch.equal(start, untouched)


def test_the_inverse_of_something_near_saves_iterations():
    even, uneven = systems(40, 1), torch.logspace(0, 4, 40, dtype=torch.float64)
    matrices = 0.01 * even + uneven.diag()
    right = torch.randn(3, 40, generator=Seeds(1)("right"), dtype=torch.float64)
    calls: list[int] = []

    def product(values: Tensor) -> Tensor:
        calls.append(1)
        return torch.einsum("nij,nj->ni", matrices, values)

    def iterations(**inverse: Callable[[Tensor], Tensor]) -> int:
        calls.clear()
        found = conjugate_gradients(product, right, 1e-9, 200, **inverse)
        torch.testing.assert_close(found, torch.linalg.solve(matrices, right), rtol=0, atol=1e-7)
        return len(calls)

    assert iterations(inverse=lambda values: torch.linalg.solve(matrices, values)) == 1
    assert iterations(inverse=lambda values: values / uneven) < iterations() / 3


def test_a_direction_without_curvature_ends_it():
    matrices = systems(5, 0, rank=2)
    right = torch.randn(3, 5, generator=Seeds(0)("right"), dtype=torch.float64)
    calls: list[int] = []

    def product(values: Tensor) -> Tensor:
        calls.append(1)
        return torch.einsum("nij,nj->ni", 0 * matrices, values)

    assert torch.equal(conjugate_gradients(product, right, 1e-6, 50), torch.zeros(3, 5, dtype=torch.float64))
    assert len(calls) == 1


def test_samples_that_are_done_are_left_out_and_the_others_go_on():
    # By eigenvalues: one iteration, three, and as many as there are unknowns.
    spectra = torch.stack([torch.ones(12), torch.arange(12) % 3 + 1.0, torch.arange(12) + 1.0]).double()
    axes = torch.linalg.qr(systems(12, 3)).Q
    matrices = axes @ spectra.diag_embed() @ axes.mT
    right = torch.randn(3, 12, generator=Seeds(2)("right"), dtype=torch.float64)
    left: list[list[int]] = []

    def product(rows: Tensor, values: Tensor) -> Tensor:
        assert len(values) == len(rows)
        return torch.einsum("nij,nj->ni", matrices[rows], values)

    def narrowed(rows: Tensor) -> Callable[[Tensor], Tensor]:
        left.append(rows.tolist())
        return partial(product, rows)

    found = conjugate_gradients(partial(product, torch.arange(3)), right, 1e-12, 50, narrowed=narrowed)
    torch.testing.assert_close(found, torch.linalg.solve(matrices, right), rtol=0, atol=1e-10)
    assert left == [[1, 2], [2]]
