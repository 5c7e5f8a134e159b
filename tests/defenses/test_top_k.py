from math import ceil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator

from fedsplit.defenses.top_k import TopK


@given(st.floats(0.01, 1), st.integers(0, 50))
def test_the_largest_magnitudes_of_each_sample_are_kept_and_no_others(share: float, seed: int) -> None:
    smashed = torch.randn(4, 3, 5, generator=Generator().manual_seed(seed), dtype=torch.float64)
    for before, after in zip(smashed, TopK(share=share).release(smashed, Generator()), strict=True):
        kept = after != 0
        assert int(kept.sum()) == ceil(share * 15)
        assert torch.equal(after[kept], before[kept])
        assert kept.all() or before[kept].abs().min() > before[~kept].abs().max()


def test_the_gradient_passes_where_a_value_did() -> None:
    smashed = torch.tensor([[3.0, -4.0, 1.0, 0.5], [0.1, 0.2, -0.3, 0.4]], requires_grad=True)
    (gradient,) = torch.autograd.grad(TopK(share=0.5).release(smashed, Generator()).sum(), smashed)
    assert gradient.tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_of_equal_values_as_many_are_kept(share: float) -> None:
    released = TopK(share=share).release(torch.ones(2, 10), Generator())
    assert released.sum(dim=1).tolist() == [10 * share, 10 * share]
