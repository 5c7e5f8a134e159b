"""The structural similarity against scikit-image, image by image, in float64."""

import pytest
import torch
from skimage.metrics import structural_similarity

from fedsplit.errors import EngineError
from fedsplit.metrics.ssim import Ssim
from fedsplit.records.truth import Truth
from tests.metrics.pictures import noisy, pictures


@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ((1, 28, 28), 7),
        ((3, 32, 20), 7),
        ((1, 8, 8), 7),
        ((1, 7, 9), 7),
        ((1, 6, 6), 5),
        ((3, 5, 8), 5),
        ((1, 3, 4), 3),
    ],
)
def test_is_that_of_scikit_image(shape: tuple[int, int, int], window: int):
    images = pictures(8, shape, seed=0)
    truth, guess = images.pixels.double(), noisy(images.pixels.double(), 0.15)
    guess[0] = 0  # a blank image, where sums of squares cancel
    values = Ssim().measure(Truth(truth, images.labels), guess, None).values
    for value, true, guessed in zip(values, truth.numpy(), guess.numpy(), strict=True):
        expected = structural_similarity(true, guessed, data_range=1, channel_axis=0, win_size=window)
        assert float(value) == pytest.approx(expected, abs=1e-9)


def test_batches_keep_the_order():
    images = pictures(300, (1, 8, 8), seed=0)
    guess = noisy(images.pixels, 0.1)
    values = Ssim().measure(Truth(images.pixels, images.labels), guess, None).values
    alone = Ssim().measure(Truth(images.pixels[299:], images.labels[299:]), guess[299:], None).values
    assert values.shape == (300,)
    assert float(values[299]) == pytest.approx(float(alone), abs=1e-12)


def test_images_without_room_for_a_window_are_refused():
    two = torch.zeros(1, 1, 2, 9)
    with pytest.raises(EngineError, match="too small"):
        Ssim().measure(Truth(two, torch.zeros(1, dtype=torch.int64)), two, None)
