import math

import pytest
import torch
from torch import Generator

from fedsplit.numerics.chamfer_distance import chamfer_distance, mean_gap


def rows(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 3, generator=Generator().manual_seed(seed))


def test_it_is_the_mean_over_both_sets_written_out() -> None:
    first, second = rows(4, 0), rows(6, 1)
    there = [min(math.dist(x, y) for y in second.tolist()) for x in first.tolist()]
    back = [min(math.dist(x, y) for y in first.tolist()) for x in second.tolist()]
    expected = (sum(there) / 4 + sum(back) / 6) / 2
    assert chamfer_distance(first, second) == pytest.approx(expected, rel=1e-6)
    assert chamfer_distance(second, first) == pytest.approx(expected, rel=1e-6)
    assert chamfer_distance(first, first.flip(0)) == pytest.approx(0, abs=1e-6)


def test_nobody_is_its_own_neighbour() -> None:
    own = rows(7, 0)
    gaps = [min(math.dist(x, y) for j, y in enumerate(own.tolist()) if j != i) for i, x in enumerate(own.tolist())]
    assert mean_gap(own) == pytest.approx(sum(gaps) / 7, rel=1e-6)


def test_a_set_that_holds_one_vector_is_far_from_a_set_that_varies() -> None:
    many = rows(200, 0)
    assert chamfer_distance(many[:1].expand(200, -1), many) > 2 * chamfer_distance(rows(200, 1), many)
