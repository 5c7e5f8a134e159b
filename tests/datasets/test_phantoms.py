import torch

from fedsplit.datasets.phantoms import Phantoms
from tests.datasets.fixtures import refusal


def test_an_image_size_is_drawn_and_not_stretched() -> None:
    large = Phantoms(count=12, image_size=56)
    assert large.shape() == (1, 56, 56)
    fine = large.load().pixels
    stretched = torch.nn.functional.interpolate(Phantoms(count=12).load().pixels, (56, 56), mode="bilinear")
    assert fine.diff(dim=-1).abs().amax() > 1.2 * stretched.diff(dim=-1).abs().amax()


def test_a_seed_of_its_own_chooses_the_bodies() -> None:
    first, other = (Phantoms(count=30, seed=seed).load() for seed in (0, 1))
    assert not torch.equal(first.pixels, other.pixels)
    assert torch.equal(first.labels, other.labels)
    assert not first.notice


def test_fewer_images_than_anatomies_are_one_line() -> None:
    assert "phantom 4" in refusal(Phantoms(count=4, anatomies=9).load)


def test_channels_and_anatomies_are_as_set() -> None:
    images = Phantoms(count=30, channels=3, anatomies=9, image_size=16).load()
    assert images.pixels.shape == (30, 3, 16, 16)
    assert len(images.class_names) == 9
