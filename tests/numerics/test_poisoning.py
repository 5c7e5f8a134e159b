import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Generator, Tensor

from fedsplit.numerics.poisoning import (
    Norm,
    kept_label,
    longest_descent,
    minimised,
    misalignment,
    post_processed,
    post_processed_keeping_label,
    shrunk,
    swapped,
)

DTYPES = (torch.float32, torch.float64)
NORMS: tuple[Norm, ...] = ("sum", "largest")
CLASSES = st.integers(2, 12)
BUDGETS = st.one_of(st.floats(1e-6, 2.5), st.just(0.1))


def confidences(rows: np.ndarray, dtype: torch.dtype) -> Tensor:
    """As a model gives them: from flat to so sure that all but one entry underflow."""
    return torch.as_tensor(rows, dtype=dtype).softmax(dim=1)


@st.composite
def questions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    classes = draw(CLASSES)
    numbers = st.one_of(st.floats(-200, 200), st.sampled_from([0.0, 1.0, -1.0]))
    logits = draw(arrays(np.float64, (4, classes), elements=numbers))
    change = draw(arrays(np.float64, (4, classes), elements=st.one_of(st.floats(-3, 3), st.sampled_from([0.0, -1.0]))))
    return logits, change


def length(change: Tensor, norm: Norm) -> Tensor:
    return change.abs().sum(dim=1) if norm == "sum" else change.abs().amax(dim=1)


@settings(max_examples=150, deadline=None)
@given(questions(), BUDGETS, st.floats(0, 0.5), st.sampled_from(NORMS), st.sampled_from(DTYPES))
def test_it_keeps_the_label_the_simplex_and_the_budget(
    question: tuple[np.ndarray, np.ndarray], budget: float, margin: float, norm: Norm, dtype: torch.dtype
) -> None:
    clean, change = confidences(question[0], dtype), torch.as_tensor(question[1], dtype=dtype)
    for found, kept in (
        (post_processed(clean, change, budget, norm), False),
        (post_processed_keeping_label(clean, change, budget, margin, norm), True),
    ):
        assert found.dtype == dtype and found.min() >= 0
        torch.testing.assert_close(found.sum(dim=1), torch.ones(4, dtype=dtype), rtol=0, atol=1e-5)
        assert (length(found - clean, norm) <= budget).all()
        if kept:
            assert torch.equal(found.argmax(dim=1), clean.argmax(dim=1))


@settings(max_examples=100, deadline=None)
@given(questions(), questions(), st.floats(0, 0.5))
def test_no_larger_share_of_the_way_keeps_the_label(
    question: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray], margin: float
) -> None:
    classes = min(question[0].shape[1], other[0].shape[1])
    clean, goal = (confidences(one[0][:, :classes] / 50, torch.float64) for one in (question, other))
    share = kept_label(clean, goal, margin)
    assert (share >= 0).all() and (share <= 1).all()

    def leads(t: Tensor) -> Tensor:
        found, top = (1 - t) * clean + t * goal, clean.argmax(dim=1, keepdim=True)
        wanted = (clean.gather(1, top) - clean).clamp(max=margin)
        slack = found.gather(1, top) - found - wanted
        return slack.amin(dim=1)

    assert (leads(share) >= -1e-12).all()
    further = (share + 1e-3)[:, 0]
    beyond = leads((share + 1e-3).clamp(max=1))
    assert (beyond < 0).logical_or(further >= 1).logical_or(beyond.abs() < 1e-9).all()


def test_the_whole_budget_is_used_where_the_label_allows_it() -> None:
    clean = torch.tensor([[0.7, 0.2, 0.1]])
    change = torch.tensor([[-0.5, 0.1, 0.4]])
    found = post_processed(clean, change, 0.2)
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.22, 0.18]]))
    # Towards (0.2, 0.3, 0.5) the third class draws level where 0.6 - 0.9 t = 0.
    kept = post_processed_keeping_label(clean, change, 2.0, margin=0.0)
    torch.testing.assert_close(kept, clean + (0.6 / 0.9) * change)
    apart = post_processed_keeping_label(clean, change, 2.0, margin=0.15)
    assert float(apart[0, 0] - apart[0, 2]) == pytest.approx(0.15, abs=2e-6)
    largest = post_processed(clean, change, 0.2, "largest")
    assert float((largest - clean).abs().max()) == pytest.approx(0.2, abs=1e-5)


def test_a_change_that_leaves_nothing_changes_nothing() -> None:
    clean = torch.tensor([[0.7, 0.2, 0.1]])
    assert torch.equal(post_processed(clean, -clean - 1, 1.0), clean)


def test_it_has_a_gradient_where_there_is_no_change_yet() -> None:
    clean = confidences(np.random.default_rng(0).normal(size=(3, 4)) * 40, torch.float32)
    change = torch.zeros_like(clean, requires_grad=True)
    weights = torch.rand(clean.shape, generator=Generator().manual_seed(0))
    for found in (
        post_processed(clean, change, 0.1),
        post_processed_keeping_label(clean, change, 0.1, 0.01),
        shrunk(clean, change, 0.1),
    ):
        (gradient,) = torch.autograd.grad((weights * found).sum(), change)
        assert gradient.isfinite().all() and gradient.any()


def test_swapped_exchanges_two_entries() -> None:
    clean = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.5, 0.3, 0.2]])
    expected = torch.tensor([[0.1, 0.2, 0.7], [0.1, 0.6, 0.3], [0.5, 0.3, 0.2]])
    assert torch.equal(swapped(clean, torch.tensor([2, 1, 0])), expected)


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-3, 2), st.integers(0, 100))
def test_shrunk_stays_within_a_share_of_every_row(budget: float, seed: int) -> None:
    rng = Generator().manual_seed(seed)
    clean, change = (torch.randn((5, 2, 3, 3), generator=rng, dtype=torch.float64) for _ in range(2))
    clean[0], change[1] = 0, change[1] * 1e-6
    found = shrunk(clean, change, budget)
    moved, allowed = (found - clean).flatten(1).norm(dim=1), budget * clean.flatten(1).norm(dim=1)
    assert (moved <= allowed * (1 + 1e-12)).all()
    torch.testing.assert_close(found[1], clean[1] + change[1])
    assert torch.equal(found[0], clean[0])
    torch.testing.assert_close(moved[2:], torch.minimum(allowed, change.flatten(1).norm(dim=1))[2:])


def test_misalignment_is_one_less_the_cosine() -> None:
    one = torch.tensor([3.0, 4.0])
    found = [float(misalignment(one, other)) for other in (2 * one, torch.tensor([-4.0, 3.0]), -one)]
    assert found == pytest.approx([0, 1, 2])


@pytest.mark.parametrize("mismatch", [0.0, 0.3, 0.9])
def test_a_shorter_step_along_a_vector_near_the_gradient_lowers_a_quadratic(mismatch: float) -> None:
    rng = Generator().manual_seed(0)
    curvatures = torch.tensor([0.01, 0.5, 3.0, 7.0], dtype=torch.float64)
    longest = longest_descent(mismatch, float(curvatures.max()))

    def loss(place: Tensor) -> Tensor:
        return (curvatures * place.square()).sum() / 2

    for _ in range(300):
        place, direction = (torch.randn(4, generator=rng, dtype=torch.float64) for _ in range(2))
        gradient = curvatures * place
        near = gradient + mismatch * gradient.norm() * direction / direction.norm()
        assert loss(place - 0.999 * longest * near) < loss(place)


def test_the_longest_descent_cannot_be_longer() -> None:
    # The worst case of the lemma: along the steepest axis, with a vector that is too long by all of the mismatch
    # a step must be shorter than 2 / (L (1 + c)); the lemma's bound is below it, and equal without a mismatch.
    smoothness, place = 4.0, 1.5
    longest = longest_descent(0.0, smoothness)
    after = place - 1.001 * longest * smoothness * place
    assert smoothness * after**2 / 2 > smoothness * place**2 / 2
    assert longest_descent(0.4, smoothness) < 2 / (smoothness * 1.4)


def test_minimised_finds_the_vertex_of_the_budget() -> None:
    clean = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]], dtype=torch.float64)
    prices = torch.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]], dtype=torch.float64)

    def step(rows: Tensor, change: Tensor) -> Tensor:
        return post_processed(rows, change, 0.1)

    found = minimised(lambda rows: (prices * rows).sum(), clean, step, torch.full((2, 1), 0.1), 200, 0.05)
    # Half of the budget is taken from the dearest class, and given to the cheapest.
    expected = clean + torch.tensor([[0.05, 0, -0.05], [-0.05, 0, 0.05]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.1 * 0.05)
    alone = minimised(lambda rows: (prices[:1] * rows).sum(), clean[:1], step, torch.full((1, 1), 0.1), 200, 0.05)
    torch.testing.assert_close(alone, found[:1])
