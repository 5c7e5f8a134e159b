from typing import get_args

import pytest
import torch
from torch import Generator

from fedsplit.numerics.saturation import Squeeze, squeezed, unsqueezed

SQUEEZES: dict[Squeeze, object] = {"tanh": torch.tanh, "sigmoid": torch.sigmoid}


def test_all_are_tested() -> None:
    assert set(SQUEEZES) == set(get_args(Squeeze))


@pytest.mark.parametrize("squeeze", SQUEEZES)
@pytest.mark.parametrize(("dtype", "reach", "tolerance"), [(torch.float32, 3, 1e-4), (torch.float64, 10, 1e-6)])
def test_it_is_the_inverse(squeeze: Squeeze, dtype: torch.dtype, reach: float, tolerance: float) -> None:
    values = torch.linspace(-reach, reach, 301, dtype=dtype)
    released = SQUEEZES[squeeze](values)  # pyright: ignore[reportCallIssue]
    assert squeezed(released, squeeze)
    found = unsqueezed(released, squeeze)
    assert found.dtype == dtype
    torch.testing.assert_close(found, values, rtol=0, atol=tolerance)


@pytest.mark.parametrize("squeeze", SQUEEZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_saturated_is_finite_and_the_farthest_of_all(squeeze: Squeeze, dtype: torch.dtype) -> None:
    values = torch.tensor([-1e6, -3.0, 0.0, 3.0, 1e6], dtype=dtype)
    released = SQUEEZES[squeeze](values)  # pyright: ignore[reportCallIssue]
    found = unsqueezed(released, squeeze)
    assert found.isfinite().all()
    assert (found.diff() > 0).all()
    # As far as the type goes, and no further: the last number below one is still told apart from one before it.
    below = torch.nextafter(torch.ones((), dtype=dtype), torch.zeros((), dtype=dtype))
    assert found[-1] == unsqueezed(below[None], squeeze)[0]
    assert found[-1] > unsqueezed(torch.nextafter(below, torch.zeros((), dtype=dtype))[None], squeeze)[0]


@pytest.mark.parametrize(
    ("squeeze", "value", "within"),
    [
        ("tanh", -1.0, True),
        ("tanh", -1.001, False),
        ("tanh", 1.001, False),
        ("tanh", float("nan"), False),
        ("sigmoid", 1.0, True),
        ("sigmoid", 0.0, False),
        ("sigmoid", -0.001, False),
    ],
)
def test_one_value_outside_is_enough(squeeze: Squeeze, value: float, within: bool) -> None:
    values = SQUEEZES[squeeze](torch.randn(50, generator=Generator().manual_seed(0)))  # pyright: ignore[reportCallIssue]
    assert squeezed(values, squeeze)
    values[17] = value
    assert squeezed(values, squeeze) == within


def test_what_relu_gives_is_neither_however_small() -> None:
    values = torch.rand(50, generator=Generator().manual_seed(0)) - 0.5
    assert squeezed(values, "tanh")
    assert not squeezed(values.relu(), "tanh") and not squeezed(values.relu(), "sigmoid")
