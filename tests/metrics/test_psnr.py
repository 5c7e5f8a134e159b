"""The peak signal-to-noise ratio against scikit-image, image by image."""

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from fedsplit.metrics.psnr import Psnr
from fedsplit.records.truth import Truth
from tests.metrics.pictures import noisy, pictures, truth_of


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 12)])
def test_is_that_of_scikit_image(shape: tuple[int, int, int]):
    images = pictures(6, shape, seed=0)
    guess = noisy(images.pixels, 0.2)
    values = Psnr().measure(truth_of(images), guess, None).values
    for value, true, guessed in zip(values, images.pixels.double(), guess.double(), strict=True):
        expected = peak_signal_noise_ratio(true.numpy(), guessed.numpy(), data_range=1)
        assert float(value) == pytest.approx(expected, abs=1e-9)


def test_a_dark_image_has_the_same_peak():
    images = pictures(4, (1, 8, 8), seed=0)
    dark = Truth(images.pixels * 0.1, images.labels)
    measurement = Psnr().measure(dark, images.pixels * 0.1 + 0.01, None)
    assert measurement.values == pytest.approx(torch.full((4,), 40.0), abs=1e-4)


def test_one_perfect_image_does_not_swallow_the_mean():
    images = pictures(2, (1, 8, 8), seed=0)
    guess = images.pixels.double()
    guess[1] += 0.1
    truth = Truth(images.pixels.double(), images.labels)
    measurement = Psnr().measure(truth, guess, None)
    assert measurement.values.tolist() == pytest.approx([100, 20])
    assert measurement.statistic(measurement.values) == pytest.approx(60)
