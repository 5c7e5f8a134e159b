import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator

from fedsplit.numerics.confidence import tempered_loss


def two_classes(confidence: torch.Tensor) -> torch.Tensor:
    """(n,) -> (n, 2): logits whose softmax is confident in class 1 like that."""
    return torch.stack([torch.zeros_like(confidence), confidence.logit()], dim=1)


def losses(confidence: torch.Tensor, power: float) -> torch.Tensor:
    return tempered_loss(two_classes(confidence), torch.ones(len(confidence), dtype=torch.long), power)


@given(st.floats(1.0, 20.0))
def test_it_is_least_where_the_logarithm_of_the_confidence_is_minus_one_over_the_power(power: float) -> None:
    best = math.exp(-1 / power)
    assert losses(torch.tensor([best], dtype=torch.float64), power).item() == pytest.approx(-1 / (math.e * power))
    around = torch.linspace(0.001, 0.999, 2001, dtype=torch.float64)
    found = around[losses(around, power).argmin()]
    assert float(found) == pytest.approx(best, abs=6e-4)


def test_the_gradient_vanishes_there_and_pulls_towards_it_from_both_sides() -> None:
    best = math.exp(-1 / 8)
    confidence = torch.tensor([best - 0.05, best, best + 0.05], dtype=torch.float64, requires_grad=True)
    losses(confidence, 8.0).sum().backward()
    assert confidence.grad is not None
    assert confidence.grad[0] < -0.01
    assert abs(float(confidence.grad[1])) < 1e-12
    assert confidence.grad[2] > 0.01


def test_it_is_of_the_true_class_and_finite_where_that_is_held_for_impossible() -> None:
    logits = 3 * torch.randn(9, 4, generator=Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.arange(9) % 4
    chosen = logits.softmax(dim=1)[torch.arange(9), labels]
    torch.testing.assert_close(tempered_loss(logits, labels, 3.0), chosen**3 * chosen.log())
    impossible = torch.tensor([[0.0, 1e4]], requires_grad=True)
    loss = tempered_loss(impossible, torch.tensor([0]), 8.0)
    loss.sum().backward()
    assert float(loss.detach()) == 0
    assert impossible.grad is not None and impossible.grad.isfinite().all()
