"""A sum tells whether numbers are finite, but for one that overflows."""

import pytest
import torch

from fedsplit.numerics.finite import all_finite

INFINITE, NOT_A_NUMBER = float("inf"), float("nan")


@pytest.mark.parametrize("found", [[INFINITE], [-INFINITE], [NOT_A_NUMBER], [INFINITE, -INFINITE]])
def test_one_value_is_enough(found: list[float]) -> None:
    values = torch.rand(3, 40)
    values[1, : len(found)] = torch.tensor(found)
    assert not all_finite(values)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.int64])
def test_finite_values_are_finite_even_where_their_sum_is_not(kind: torch.dtype) -> None:
    largest = torch.finfo(kind).max if kind.is_floating_point else 7
    assert all_finite(torch.full((2, 3), largest, dtype=kind))
    assert all_finite(torch.empty(0, 4, dtype=kind))


def test_what_no_sum_shows_is_found() -> None:
    largest = torch.finfo(torch.float32).max
    assert not all_finite(torch.tensor([largest, largest, INFINITE]))
