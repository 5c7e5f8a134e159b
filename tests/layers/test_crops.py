"""Crops against interpolation by scipy, and against images whose crops are known."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from torch import Tensor

from fedsplit.layers.crops import Crops


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ramp(height: int = 20, width: int = 24) -> Tensor:
    """(1, 2, height, width): each pixel holds its own place, across and down, from -1 to 1."""
    across = (torch.arange(width, dtype=torch.float64) * 2 + 1) / width - 1
    down = (torch.arange(height, dtype=torch.float64) * 2 + 1) / height - 1
    return torch.stack([across.expand(height, width), down[:, None].expand(height, width)])[None]


def test_the_whole_image_is_the_image():
    images = torch.rand(5, 3, 9, 11, generator=rng())
    torch.testing.assert_close(Crops((1.0, 1.0)).draw(images, rng()), images)


@given(seed=st.integers(0, 1000), least=st.floats(0.2, 1.0), ratio=st.floats(0.6, 1.0))
def test_a_crop_has_the_area_and_the_ratio_that_were_asked_for(seed: int, least: float, ratio: float):
    crops = Crops((least, 1.0), (ratio, 1 / ratio)).draw(ramp().expand(8, -1, -1, -1), rng(seed))
    middle = crops[:, :, 5:-5, 5:-5]  # at the rim a ramp ends
    width = (middle[:, 0, 0, -1] - middle[:, 0, 0, 0]) / (13 * 2 / 24)
    height = (middle[:, 1, -1, 0] - middle[:, 1, 0, 0]) / (9 * 2 / 20)
    assert float(width.max()) <= 1 + 1e-9 and float(height.max()) <= 1 + 1e-9
    inside = (width < 1 - 1e-6) & (height < 1 - 1e-6)
    area, shape = (width * height)[inside], (width / height)[inside]
    assert bool((area >= least - 1e-6).all()) and bool((area <= 1 + 1e-6).all())
    assert bool((shape >= ratio - 1e-6).all()) and bool((shape <= 1 / ratio + 1e-6).all())


def test_a_crop_never_shows_what_is_outside_of_the_image():
    crops = Crops((0.3, 0.6)).draw(ramp().expand(200, -1, -1, -1), rng())
    low, high = crops.amin(dim=(2, 3)), crops.amax(dim=(2, 3))
    assert float(low.min()) >= -1 and float(high.max()) <= 1
    # Corners are shown as often as the middle allows.
    assert float(low.min()) < -0.93 and float(high.max()) > 0.93


def test_it_is_linear_interpolation_at_the_places_of_the_crop():
    images = torch.rand(6, 1, 20, 24, generator=rng(1), dtype=torch.float64)
    crops = Crops((0.3, 0.7), (0.7, 1.4), mirrored=True)
    # What a ramp shows in the middle tells where the same draw looks in any image: a line through two places.
    seen = crops.draw(ramp().expand(6, -1, -1, -1), rng(2))
    for image, found, places in zip(images, crops.draw(images, rng(2)), seen, strict=True):
        across, down = (_line(places[0, 10, :], 24), _line(places[1, :, 12], 20))
        grid = np.stack(np.meshgrid(down, across, indexing="ij"))
        expected = map_coordinates(image[0].numpy(), grid, order=1, mode="nearest")
        np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-9)


def _line(places: Tensor, pixels: int) -> np.ndarray:
    """Where in an image, in pixels, a crop looks, from the places between -1 and 1 that it shows."""
    middle = len(places) // 2
    step = places[middle] - places[middle - 1]
    straight = places[middle] + step * (torch.arange(len(places)) - middle)
    return ((straight + 1) * pixels / 2 - 0.5).numpy()


@pytest.mark.parametrize("mirrored", [False, True])
def test_half_of_the_views_are_mirrored_where_they_may_be(mirrored: bool):
    crops = Crops((0.5, 0.9), mirrored=mirrored).draw(ramp().expand(400, -1, -1, -1), rng())
    backwards = crops[:, 0, 5, -1] < crops[:, 0, 5, 0]
    share = float(backwards.double().mean())
    assert 0.4 < share < 0.6 if mirrored else share == 0
    assert bool((crops[:, 1, -1, 5] > crops[:, 1, 0, 5]).all())


def test_gradients_reach_the_images():
    images = torch.rand(4, 1, 8, 8, generator=rng(), requires_grad=True)
    (gradient,) = torch.autograd.grad(Crops((0.4, 0.5)).draw(images, rng()).sum(), images)
    assert float(gradient.sum()) == pytest.approx(4 * 64, rel=1e-5)


def test_the_same_seed_gives_the_same_views():
    images = torch.rand(4, 1, 8, 8, generator=rng())
    crops = Crops((0.4, 0.8), (0.8, 1.2), mirrored=True)
    assert torch.equal(crops.draw(images, rng(3)), crops.draw(images, rng(3)))
    assert not torch.equal(crops.draw(images, rng(3)), crops.draw(images, rng(4)))
