"""The distance to a class against the formula in numpy, and what it is for."""

import numpy as np
import pytest
import torch

from fedsplit.numerics.hyperbolic import distance_to_class


def test_it_is_the_published_formula():
    logits = torch.randn(20, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.arange(20) % 7
    u = logits.numpy() / np.abs(logits.numpy()).sum(axis=1, keepdims=True)
    v = np.clip(np.eye(7)[labels.numpy()] - 1e-4, 0, 1)
    delta = 2 * ((u - v) ** 2).sum(axis=1) / ((1 - (u**2).sum(axis=1)) * (1 - (v**2).sum(axis=1)))
    np.testing.assert_allclose(distance_to_class(logits, labels).numpy(), np.arccosh(1 + delta), rtol=1e-9)


def test_the_nearer_class_is_the_likelier_one():
    logits = torch.tensor([[4.0, 1.0, -2.0]]).expand(3, 3)
    near, middle, far = distance_to_class(logits, torch.arange(3)).tolist()
    assert near < middle < far


@pytest.mark.parametrize("certain", [8.0, 30.0])
def test_its_gradient_does_not_vanish_where_the_class_is_certain(certain: float):
    logits = torch.tensor([[certain, 0.5, -0.5]], requires_grad=True)
    (gradient,) = torch.autograd.grad(distance_to_class(logits, torch.tensor([0])).sum(), logits)
    (entropy,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, torch.tensor([0])), logits)
    assert gradient.norm() > 20 * entropy.norm()
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("logits", [[5.0, 0.0, 0.0], [0.0, 0.0, 0.0], [-1e30, 0.0, 0.0]])
def test_it_is_finite_at_the_boundary_and_in_the_middle(logits: list[float]):
    rows = torch.tensor([logits], requires_grad=True)
    distance = distance_to_class(rows, torch.tensor([0])).sum()
    (gradient,) = torch.autograd.grad(distance, rows)
    assert bool(distance.isfinite()) and bool(gradient.isfinite().all())
