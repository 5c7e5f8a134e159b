from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fedsplit.numerics.near_duplicates import near_duplicate_groups
from fedsplit.numerics.phantoms import phantoms
from fedsplit.seeding import Seeds

SHAPE = (1, 28, 28)


def nearest_mean_accuracy(classes: int, features: Callable[[Tensor], Tensor]) -> float:
    """Of a classifier that knows each class's mean feature of other images."""
    known, labels = phantoms(2000, SHAPE, classes, Seeds(1)("known"))
    fresh, truth = phantoms(2000, SHAPE, classes, Seeds(2)("fresh"))
    means = torch.stack([features(known[labels == label]).mean(0) for label in range(classes)])
    return float((torch.cdist(features(fresh), means).argmin(1) == truth).double().mean())


def grey_level(images: Tensor) -> Tensor:
    return images.mean((1, 2, 3))[:, None]


def pixels(images: Tensor) -> Tensor:
    return images.flatten(1)


def test_the_same_seed_draws_the_same_bodies_and_another_one_others() -> None:
    first, again, other = (phantoms(300, SHAPE, 6, Seeds(seed)("phantoms"))[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert ((first - other).square().mean((1, 2, 3)).sqrt() > 0.03).all()


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 28, 28), (3, 33, 20), (4, 64, 64)])
@pytest.mark.parametrize("count", [1, 257])
def test_images_of_any_shape_are_in_range_and_use_it(shape: tuple[int, int, int], count: int) -> None:
    images, labels = phantoms(count, shape, 6, Seeds(0)("phantoms"))
    assert images.shape == (count, *shape)
    assert images.dtype == torch.float32
    assert 0 <= images.min() < 0.1
    assert 0.3 < images.max() <= 1
    assert labels.tolist() == [row % 6 for row in range(count)]


@pytest.mark.parametrize("classes", [3, 6, 20])
def test_anatomies_can_be_told_apart_though_not_without_a_mistake(classes: int) -> None:
    assert 0.9 < nearest_mean_accuracy(classes, pixels) < 0.999


@pytest.mark.parametrize("classes", [6, 20])
def test_the_mean_grey_level_alone_tells_little(classes: int) -> None:
    assert 1 / classes < nearest_mean_accuracy(classes, grey_level) < 0.45


def test_each_image_has_details_that_no_other_has() -> None:
    images, labels = phantoms(600, SHAPE, 6, Seeds(0)("phantoms"))
    assert len(near_duplicate_groups(images, labels, 0.12).unique()) == 600
    for label in range(6):
        own = images[labels == label].flatten(1)
        away = torch.cdist(own, own).fill_diagonal_(float("inf")) / own.shape[1] ** 0.5
        assert away.min() > 0.03, "eight levels of grey, four times the noise of the picture"


def test_details_are_more_than_a_pose() -> None:
    """What an image has beyond its class's mean picture is not explained by the few numbers of a pose."""
    images, labels = phantoms(1200, SHAPE, 6, Seeds(0)("phantoms"))
    own = images[labels == 2].flatten(1)
    spread = torch.linalg.svdvals(own - own.mean(0)).square()
    assert spread[4:].sum() > 0.3 * spread.sum()


def test_made_up_anatomies_are_the_same_for_every_seed() -> None:
    def means(seed: int) -> Tensor:
        images, labels = phantoms(600, SHAPE, 10, Seeds(seed)("phantoms"))
        return torch.stack([images[labels == label].mean(0).flatten() for label in range(6, 10)])

    assert torch.cdist(means(0), means(1)).argmin(1).tolist() == [0, 1, 2, 3]
    assert torch.cdist(means(0), means(1)).diagonal().max() < 0.5 * torch.cdist(means(0), means(0))[0, 1:].min()


def test_colours_are_tints_of_one_body() -> None:
    images, _ = phantoms(12, (3, 28, 28), 6, Seeds(0)("phantoms"))
    inside = (images < 1).all(1) & (images > 0.2).all(1)
    for image, mask in zip(images, inside, strict=True):
        ratio = image[0][mask] / image[1][mask]
        assert ratio.std() < 1e-4
    assert not torch.equal(images[:, 0], images[:, 1])
