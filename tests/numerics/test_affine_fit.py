"""The affine map against numpy's least squares, its law, and images that have no contrast."""

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsplit.numerics.affine_fit import affine_fit

SHAPE = (3, 4, 5)


def images(count: int, seed: int) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("scale", [1.0, -0.3, 1e-6], ids=["plain", "inverted", "faint"])
def test_is_that_of_least_squares(scale: float):
    targets = images(6, 0)
    guesses = scale * (targets + images(6, 1))
    for guess, target, fitted in zip(guesses, targets, affine_fit(guesses, targets), strict=True):
        design = numpy.stack([guess.flatten().numpy(), numpy.ones(guess.numel())], axis=1)
        solution = numpy.linalg.lstsq(design, target.flatten().numpy(), rcond=None)[0]
        assert fitted.flatten().numpy() == pytest.approx(design @ solution, abs=1e-8)


@settings(max_examples=50)
@given(seed=st.integers(0, 2**16), share=st.floats(-1, 1))
def test_the_residual_is_what_the_correlation_leaves(seed: int, share: float):
    targets = images(3, seed)
    guesses = share * targets + (1 - abs(share)) * images(3, seed + 1)
    error = (affine_fit(guesses, targets) - targets).square().flatten(1).mean(1)
    for found, guess, target in zip(error, guesses, targets, strict=True):
        correlation = torch.corrcoef(torch.stack([guess.flatten(), target.flatten()]))[0, 1]
        expected = target.var(correction=0) * (1 - correlation**2)
        assert float(found) == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1 / 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_image_becomes_the_mean_of_the_target(value: float, dtype: torch.dtype):
    targets = images(2, 0).to(dtype)
    fitted = affine_fit(torch.full_like(targets, value), targets)
    mean = targets.double().mean((1, 2, 3), keepdim=True).expand_as(targets)
    torch.testing.assert_close(fitted, mean, rtol=0, atol=1e-15)


def test_a_constant_target_is_met():
    targets = torch.full((1, *SHAPE), 0.3)
    assert float((affine_fit(images(1, 0), targets) - targets).abs().max()) < 1e-12


@pytest.mark.parametrize("contrast", [1e-7, 1e-30, 1e-200, 1e-300])
def test_no_contrast_is_too_faint(contrast: float):
    targets = images(2, 0)
    torch.testing.assert_close(affine_fit(contrast * targets, targets), targets)


def test_nothing_but_a_single_pixel_is_a_constant_image():
    targets = torch.rand(3, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(affine_fit(torch.zeros(3, 1, 1, 1), targets), targets.double())


def test_each_image_has_a_map_of_its_own_and_channels_share_it():
    targets = images(2, 0)
    guesses = torch.stack([0.5 * targets[0] + 0.1, 0.9 - 0.2 * targets[1]])
    torch.testing.assert_close(affine_fit(guesses, targets), targets)
    tinted = targets * torch.tensor([1.0, 0.5, 0.1], dtype=torch.float64)[:, None, None]
    assert float((affine_fit(tinted, targets) - targets).abs().max()) > 0.1


def test_batches_keep_the_order():
    targets, guesses = images(300, 0), images(300, 1)
    fitted = affine_fit(guesses, targets)
    assert fitted.shape == targets.shape
    torch.testing.assert_close(fitted[-5:], affine_fit(guesses[-5:], targets[-5:]), rtol=0, atol=1e-12)
