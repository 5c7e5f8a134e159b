"""The affine peak signal-to-noise ratio against numpy's line fit and scikit-image, and what its definition promises."""

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor

from fedsplit.metrics.psnr import Psnr
from fedsplit.metrics.psnr_affine import PsnrAffine
from fedsplit.records.truth import Truth
from tests.metrics.pictures import noisy, pictures, truth_of

IMAGES = pictures(6, (3, 12, 10), seed=0)
GUESS = noisy(IMAGES.pixels, 0.2).double()


def scores(guess: Tensor, truth: Truth | None = None) -> Tensor:
    return PsnrAffine().measure(truth or truth_of(IMAGES), guess, None).values


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 12)])
def test_is_that_of_scikit_image_after_a_line_fit(shape: tuple[int, int, int]):
    images = pictures(6, shape, seed=0)
    guess = 0.2 + 0.4 * noisy(images.pixels, 0.2)
    for value, true, guessed in zip(
        scores(guess, truth_of(images)), images.pixels.double().numpy(), guess.double().numpy(), strict=True
    ):
        mapped = numpy.polyval(numpy.polyfit(guessed.ravel(), true.ravel(), 1), guessed)
        assert float(value) == pytest.approx(peak_signal_noise_ratio(true, mapped, data_range=1), abs=1e-9)


def test_what_the_map_sends_outside_the_range_is_kept():
    grey = IMAGES.pixels.double()
    truth = Truth((grey > grey.mean((1, 2, 3), keepdim=True)).double(), IMAGES.labels)
    for value, true, guessed in zip(scores(grey, truth), truth.images.numpy(), grey.numpy(), strict=True):
        mapped = numpy.polyval(numpy.polyfit(guessed.ravel(), true.ravel(), 1), guessed)
        assert mapped.min() < -0.1 or mapped.max() > 1.1
        assert float(value) == pytest.approx(peak_signal_noise_ratio(true, mapped, data_range=1), abs=1e-9)


@settings(max_examples=50)
@given(factor=st.floats(0.01, 1), room=st.floats(0, 1), inverted=st.booleans())
def test_an_affine_map_of_the_guess_changes_nothing(factor: float, room: float, inverted: bool):
    mapped = factor * (1 - GUESS if inverted else GUESS) + room * (1 - factor)
    torch.testing.assert_close(scores(mapped), scores(GUESS), rtol=0, atol=1e-9)


@settings(max_examples=50)
@given(seed=st.integers(0, 2**16), std=st.floats(0, 1), share=st.floats(0, 1))
def test_is_never_below_the_plain_ratio(seed: int, std: float, share: float):
    guess = noisy(share * IMAGES.pixels, std, seed)
    assert bool((scores(guess) >= Psnr().measure(truth_of(IMAGES), guess, None).values - 1e-9).all())


def test_a_perfect_guess_but_for_mean_and_contrast_is_perfect():
    flat = IMAGES.pixels.double().flatten(1)
    standardised = (flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True)
    guess = (0.5 + 0.05 * standardised).reshape(GUESS.shape)
    assert scores(guess).tolist() == pytest.approx([100] * 6)
    assert float(Psnr().measure(truth_of(IMAGES), guess, None).values.max()) < 30


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_constant_guess_scores_what_the_mean_of_the_private_image_would(value: float):
    expected = -10 * IMAGES.pixels.double().flatten(1).var(1, correction=0).log10()
    torch.testing.assert_close(scores(torch.full_like(GUESS, value)), expected, rtol=0, atol=1e-9)


def test_a_constant_private_image_is_known_by_its_mean():
    truth = Truth(torch.full((2, 1, 8, 8), 0.3), torch.zeros(2, dtype=torch.int64))
    guess = torch.cat([torch.zeros(1, 1, 8, 8), pictures(1, (1, 8, 8), seed=0).pixels])
    assert scores(guess, truth).tolist() == [100, 100]


def test_chance_gains_next_to_nothing_by_a_negative_map():
    chance = torch.rand(40, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    truth = truth_of(pictures(40, (1, 28, 28), seed=1))
    gained = scores(chance, truth) - scores(torch.zeros_like(chance), truth)
    assert bool((gained >= 0).all())
    # The squared correlation of n numbers drawn by chance is 1 / (n - 1) on average: 0.0055 dB.
    assert float(gained.mean()) < 0.02
