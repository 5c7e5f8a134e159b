from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from fedsplit.datasets.phantoms import Phantoms
from fedsplit.errors import DataError
from fedsplit.public import PublicImages
from fedsplit.records.images import Images
from fedsplit.seeding import Seeds


def images(count: int, shape: tuple[int, int, int] = (1, 6, 6), seed: int = 0, classes: int = 3) -> Images:
    pixels = torch.rand(count, *shape, generator=Seeds(seed)("pixels"))
    names = tuple(f"{seed} {label}" for label in range(classes))
    return Images(pixels, torch.arange(count) % classes, torch.arange(count), names)


EVERYTHING = images(60)
ROLE = EVERYTHING.at(torch.arange(40, 60))


def chosen(other: Images | None = None, seed: int = 0, **settings: Any) -> Images:
    dataset = None if other is None else Phantoms()
    return PublicImages(dataset=dataset, **settings).choose(ROLE, EVERYTHING, other, Seeds(seed)("public"))


def places(pixels: Tensor, others: Tensor) -> list[int]:
    """Where each image is among the others."""
    same = (pixels[:, None] == others).flatten(2).all(dim=2)
    assert bool((same.sum(dim=1) == 1).all())
    return same.long().argmax(dim=1).tolist()


def test_by_default_public_is_what_the_role_has() -> None:
    found = chosen()
    assert torch.equal(found.pixels, ROLE.pixels) and torch.equal(found.labels, ROLE.labels)
    assert PublicImages().title == ""


def test_some_of_them_at_random_with_their_labels() -> None:
    found = chosen(count=7)
    rows = places(found.pixels, ROLE.pixels)
    assert rows == sorted(set(rows)) and len(rows) == 7 and rows != list(range(7))
    assert torch.equal(found.labels, ROLE.labels[rows])
    assert len(chosen(count=500)) == len(ROLE)


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 9, 5)])
def test_another_data_set_keeps_its_classes_and_comes_in_our_size_and_colours(shape: tuple[int, int, int]) -> None:
    other = images(50, shape, seed=1, classes=7)
    found = chosen(other, count=30)
    assert found.pixels.shape == (30, 1, 6, 6)
    assert found.class_names == other.class_names
    assert found.labels.unique().tolist() == list(range(7))
    if shape == (1, 6, 6):
        assert torch.equal(found.labels, other.labels[places(found.pixels, other.pixels)])
    assert len(chosen(other)) == 50


def test_nothing_that_a_client_may_hold_is_public() -> None:
    own = images(10, seed=1)
    mixed = replace(own, pixels=torch.cat([EVERYTHING.pixels[:6], own.pixels[6:]]))
    assert torch.equal(chosen(mixed).pixels, own.pixels[6:])
    with pytest.raises(DataError, match=r"public\.dataset: 'phantoms': has no image that is not in `dataset`, too"):
        chosen(EVERYTHING)


def test_the_same_stream_chooses_the_same() -> None:
    for other in (None, images(50, seed=1)):
        once, again, otherwise = (chosen(other, seed, count=9).pixels for seed in (0, 0, 1))
        assert torch.equal(once, again) and not torch.equal(once, otherwise)


@pytest.mark.parametrize(
    ("settings", "title"),
    [({"count": 2000}, "2,000 images"), ({"dataset": Phantoms(), "count": 40}, "40 images of synthetic phantoms")],
)
def test_it_says_what_sets_them_apart(settings: dict[str, Any], title: str) -> None:
    assert PublicImages(**settings).title == title


def test_what_cannot_be_is_refused() -> None:
    for settings in ({"count": 1}, {"surprise": 1}, {"dataset": {"kind": "nothing"}}):
        with pytest.raises(ValidationError):
            PublicImages.model_validate(settings)
