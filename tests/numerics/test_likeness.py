import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fedsplit.numerics.likeness import alike, centred
from fedsplit.seeding import Seeds

COLOUR = torch.rand(2, 3, 12, 18, generator=Seeds(0)("colour"))


def test_grey_is_as_bright_as_pillow_says() -> None:
    pixels = (COLOUR * 255).round()
    grey = alike(pixels / 255, (1, 12, 18)) * 255
    for image, found in zip(pixels, grey, strict=True):
        known = np.asarray(Image.fromarray(image.permute(1, 2, 0).byte().numpy()).convert("L"), dtype=float)
        assert np.abs(known - found[0].numpy()).max() <= 1


def test_what_shrinks_is_averaged_as_pillow_does_and_nothing_changes_in_its_own_size() -> None:
    small = alike(COLOUR, (3, 4, 6))
    for image, found in zip(COLOUR.flatten(0, 1), small.flatten(0, 1), strict=True):
        known = np.asarray(Image.fromarray(image.numpy()).resize((6, 4), Image.Resampling.BILINEAR))
        assert np.abs(known - found.numpy()).max() < 1e-5
    assert torch.equal(alike(COLOUR, (3, 12, 18)), COLOUR)


def test_grey_becomes_colour_of_equal_parts_and_gradients_pass() -> None:
    grey = COLOUR[:, :1].clone().requires_grad_()
    found = alike(grey, (3, 5, 5))
    assert torch.equal(found[:, 0], found[:, 1]) and torch.equal(found[:, 0], found[:, 2])
    (gradient,) = torch.autograd.grad(found.sum(), grey)
    # Every value of the small images is a mean of values of the large ones.
    assert float(gradient.sum()) == pytest.approx(found.numel(), rel=1e-5) and bool((gradient > 0).all())


SIDES = st.integers(1, 40)


@given(SIDES, SIDES, SIDES, SIDES, st.floats(0.05, 1.0))
def test_the_middle_is_in_the_middle_and_has_the_proportions(
    height: int, width: int, wanted_height: int, wanted_width: int, share: float
) -> None:
    places = torch.arange(height * width).view(1, 1, height, width)
    kept = centred(places, wanted_height, wanted_width, share)
    rows, columns = kept.shape[2:]
    assert 1 <= rows <= height and 1 <= columns <= width
    scale = share * min(height / wanted_height, width / wanted_width)
    assert abs(rows - scale * wanted_height) <= 1 and abs(columns - scale * wanted_width) <= 1
    top, left = divmod(int(kept[0, 0, 0, 0]), width)
    below, right = height - top - rows, width - left - columns
    assert 0 <= below - top <= 1 and 0 <= right - left <= 1


def test_all_is_kept_of_what_has_the_proportions() -> None:
    assert torch.equal(centred(COLOUR, 4, 6), COLOUR)
    assert centred(COLOUR, 5, 5).shape == (2, 3, 12, 12)
