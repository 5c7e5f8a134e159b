import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Generator

from fedsplit.defenses.top_k import TopK


@given(st.floats(0.01, 0.99), st.integers(0, 50))
def test_the_largest_magnitudes_of_each_sample_are_kept_and_no_others(share: float, seed: int) -> None:
    smashed = torch.randn(4, 3, 5, generator=Generator().manual_seed(seed), dtype=torch.float64)
    for before, after in zip(smashed, TopK(share=share).release(smashed, Generator()), strict=True):
        kept = after != 0
        assert kept.any()
        assert abs(int(kept.sum()) - share * 15) <= (0.5 if share * 15 > 0.5 else 1)
        assert torch.equal(after[kept], before[kept])
        assert kept.all() or before[kept].abs().min() > before[~kept].abs().max()


def test_the_gradient_passes_where_a_value_did() -> None:
    smashed = torch.tensor([[3.0, -4.0, 1.0, 0.5], [0.1, 0.2, -0.3, 0.4]], requires_grad=True)
    (gradient,) = torch.autograd.grad(TopK(share=0.5).release(smashed, Generator()).sum(), smashed)
    assert gradient.tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]


@pytest.mark.parametrize(("share", "count"), [(0.5, 5), (0.3, 3), (0.1, 1), (0.01, 1)])
def test_of_equal_values_as_many_are_kept(share: float, count: int) -> None:
    released = TopK(share=share).release(torch.ones(2, 10), Generator())
    assert released.sum(dim=1).tolist() == [count, count]


def test_seven_of_a_hundred_are_seven() -> None:
    assert 0.07 * 100 > 7, "rounding up would keep eight"
    assert TopK(share=0.07).release(torch.ones(1, 100), Generator()).sum() == 7


def test_to_keep_everything_is_no_defense() -> None:
    with pytest.raises(ValidationError, match="less than 1"):
        TopK(share=1.0)
