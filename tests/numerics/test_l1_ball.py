import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch import Tensor

from fedsplit.numerics.l1_ball import into_l1_ball
from fedsplit.seeding import Seeds


def by_bisection(point: Tensor, radius: float) -> np.ndarray:
    """The amount that every entry loses is where the sum of what is left crosses the radius."""
    values = point.double().numpy()
    if np.abs(values).sum() <= radius:
        return values
    loss = brentq(lambda t: np.maximum(np.abs(values) - t, 0).sum() - radius, 0, np.abs(values).max(), xtol=1e-14)
    return np.sign(values) * np.maximum(np.abs(values) - float(loss), 0)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("width", [1, 2, 7, 1000])
def test_it_is_what_bisection_finds(width: int) -> None:
    points = 3 * torch.randn(40, width, generator=Seeds(width)("points"), dtype=torch.float64)
    radius = torch.linspace(0, 4 * width, 40, dtype=torch.float64)
    for point, within, found in zip(points, radius.tolist(), into_l1_ball(points, radius), strict=True):
        np.testing.assert_allclose(found.numpy(), by_bisection(point, within), atol=1e-11)


def test_what_can_be_seen_without_computing() -> None:
    points = torch.tensor([[3.0, -1.0], [3.0, -2.5], [0.2, 0.3], [2.0, 2.0], [0.0, 0.0], [-2.0, 2.0]])
    radius = torch.tensor([1.0, 1.5, 1.0, 2.0, 0.0, 0.0])
    nearest = torch.tensor([[1.0, 0.0], [1.0, -0.5], [0.2, 0.3], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    assert torch.equal(into_l1_ball(points, radius), nearest)


ROWS = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30)


@given(ROWS, st.floats(0, 1e3))
def test_the_result_is_inside_and_stays_where_it_is(row: list[float], radius: float) -> None:
    points, within = torch.tensor([row], dtype=torch.float64), torch.tensor([radius], dtype=torch.float64)
    found = into_l1_ball(points, within)
    assert float(found.abs().sum()) <= radius * (1 + 1e-12) + 1e-9
    torch.testing.assert_close(into_l1_ball(found, within), found, rtol=0, atol=1e-9)
    assert bool((found * points >= 0).all()) and bool((found.abs() <= points.abs()).all())


@given(ROWS, st.floats(0.01, 1e3), st.integers(0, 2**32))
def test_nothing_else_inside_is_nearer(row: list[float], radius: float, seed: int) -> None:
    """A projection onto a convex set sees every point of it at no acute angle."""
    points, within = torch.tensor([row], dtype=torch.float64), torch.tensor([radius], dtype=torch.float64)
    found = into_l1_ball(points, within)
    corners = torch.cat([torch.eye(len(row)), -torch.eye(len(row))]).double() * radius
    weights = torch.rand(50, len(corners), generator=Seeds(seed)("weights"), dtype=torch.float64)
    others = torch.cat([corners, weights / weights.sum(dim=1, keepdim=True) @ corners])
    angles = ((others - found) * (points - found)).sum(dim=1)
    assert float(angles.max()) <= 1e-9 * (1 + radius) * (1 + float(points.abs().sum()))


def test_single_precision_is_as_exact_in_high_dimensions() -> None:
    points = torch.randn(2, 300_000, generator=Seeds(0)("points"))
    radius = torch.tensor([1000.0, 1e6])
    found = into_l1_ball(points, radius)
    assert found.dtype == torch.float32
    assert float(found[0].double().abs().sum()) == pytest.approx(1000, rel=1e-5)
    np.testing.assert_allclose(found[0].numpy(), by_bisection(points[0], 1000), atol=1e-6)
    assert torch.equal(found[1], points[1])
