"""The mean squared error against scikit-image, image by image."""

import pytest
import torch
from skimage.metrics import mean_squared_error

from fedsplit.metrics.mse import Mse
from fedsplit.records.truth import Truth
from tests.metrics.pictures import noisy, pictures, truth_of


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 12)])
def test_is_that_of_scikit_image(shape: tuple[int, int, int]):
    images = pictures(6, shape, seed=0)
    guess = noisy(images.pixels, 0.2)
    values = Mse().measure(truth_of(images), guess, None).values
    for value, true, guessed in zip(values, images.pixels.double(), guess.double(), strict=True):
        assert float(value) == pytest.approx(mean_squared_error(true.numpy(), guessed.numpy()), rel=1e-12)


def test_black_for_white_is_one():
    images = pictures(2, (1, 4, 4), seed=0)
    white = Truth(torch.ones(2, 1, 4, 4), images.labels)
    assert Mse().measure(white, torch.zeros(2, 1, 4, 4), None).values.tolist() == [1, 1]
