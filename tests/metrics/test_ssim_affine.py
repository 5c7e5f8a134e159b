"""The affine structural similarity against numpy's line fit and scikit-image, and what its definition promises."""

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity
from torch import Tensor

from fedsplit.errors import EngineError
from fedsplit.metrics.ssim import Ssim
from fedsplit.metrics.ssim_affine import SsimAffine
from fedsplit.records.truth import Truth
from tests.metrics.pictures import noisy, pictures, truth_of

IMAGES = pictures(6, (3, 12, 10), seed=0)
GUESS = noisy(IMAGES.pixels, 0.2).double()


def scores(guess: Tensor, truth: Truth | None = None) -> Tensor:
    return SsimAffine().measure(truth or truth_of(IMAGES), guess, None).values


@pytest.mark.parametrize(("shape", "window"), [((1, 28, 28), 7), ((3, 16, 12), 7), ((1, 6, 6), 5)])
def test_is_that_of_scikit_image_after_a_line_fit(shape: tuple[int, int, int], window: int):
    images = pictures(6, shape, seed=0)
    guess = 0.2 + 0.4 * noisy(images.pixels, 0.2)
    for value, true, guessed in zip(
        scores(guess, truth_of(images)), images.pixels.double().numpy(), guess.double().numpy(), strict=True
    ):
        mapped = numpy.polyval(numpy.polyfit(guessed.ravel(), true.ravel(), 1), guessed)
        expected = structural_similarity(true, mapped, data_range=1, channel_axis=0, win_size=window)
        assert float(value) == pytest.approx(expected, abs=1e-9)


def test_what_the_map_sends_outside_the_range_is_kept():
    grey = IMAGES.pixels.double()
    truth = Truth((grey > grey.mean((1, 2, 3), keepdim=True)).double(), IMAGES.labels)
    for value, true, guessed in zip(scores(grey, truth), truth.images.numpy(), grey.numpy(), strict=True):
        mapped = numpy.polyval(numpy.polyfit(guessed.ravel(), true.ravel(), 1), guessed)
        assert mapped.min() < -0.1 or mapped.max() > 1.1
        assert float(value) == pytest.approx(
            structural_similarity(true, mapped, data_range=1, channel_axis=0), abs=1e-9
        )


@settings(max_examples=50)
@given(factor=st.floats(0.01, 1), room=st.floats(0, 1), inverted=st.booleans())
def test_an_affine_map_of_the_guess_changes_nothing(factor: float, room: float, inverted: bool):
    mapped = factor * (1 - GUESS if inverted else GUESS) + room * (1 - factor)
    torch.testing.assert_close(scores(mapped), scores(GUESS), rtol=0, atol=1e-9)


def test_a_perfect_guess_but_for_mean_and_contrast_is_perfect():
    guess = 0.4 + 0.1 * IMAGES.pixels
    assert scores(guess).tolist() == pytest.approx([1] * 6)
    assert float(Ssim().measure(truth_of(IMAGES), guess, None).values.max()) < 0.9


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_constant_guess_scores_what_the_mean_of_the_private_image_would(value: float):
    means = IMAGES.pixels.double().mean((1, 2, 3), keepdim=True).expand_as(GUESS)
    expected = Ssim().measure(truth_of(IMAGES), means, None).values
    torch.testing.assert_close(scores(torch.full_like(GUESS, value)), expected, rtol=0, atol=1e-9)


def test_a_constant_private_image_is_known_by_its_mean():
    truth = Truth(torch.full((2, 1, 8, 8), 0.3), torch.zeros(2, dtype=torch.int64))
    guess = torch.cat([torch.zeros(1, 1, 8, 8), pictures(1, (1, 8, 8), seed=0).pixels])
    assert scores(guess, truth).tolist() == pytest.approx([1, 1])


def test_a_poor_guess_may_score_below_its_plain_similarity():
    texture = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0)).double()
    truth = Truth(texture, torch.zeros(1, dtype=torch.int64))
    guess = noisy(texture, 1.0)
    assert float(scores(guess, truth)) < float(Ssim().measure(truth, guess, None).values)


def test_images_without_room_for_a_window_are_refused():
    two = torch.zeros(1, 1, 2, 9)
    with pytest.raises(EngineError, match="too small"):
        scores(two, Truth(two, torch.zeros(1, dtype=torch.int64)))
