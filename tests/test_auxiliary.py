from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from fedsplit.auxiliary import NO_CLASS, AuxiliaryImages
from fedsplit.datasets.phantoms import Phantoms
from fedsplit.errors import DataError
from fedsplit.records.images import Images
from fedsplit.seeding import Seeds

NAMES = ("cat", "dog", "3")


def images(count: int, shape: tuple[int, int, int] = (1, 6, 6), seed: int = 0, group: int = 1) -> Images:
    pixels = torch.rand(count, *shape, generator=Seeds(seed)("pixels"))
    return Images(pixels, torch.arange(count) % 3, torch.arange(count) // group, NAMES)


def own(**settings: Any) -> AuxiliaryImages:
    return AuxiliaryImages.model_validate(settings)


EVERYTHING = images(200)
LEARNED, VALIDATION = EVERYTHING.at(torch.arange(90)), EVERYTHING.at(torch.arange(90, 120))
STRANGE = own(dataset=Phantoms())


def chosen(kind: AuxiliaryImages, other: Images | None = None, seed: int = 0) -> tuple[Images, Images]:
    return kind.choose(LEARNED, VALIDATION, EVERYTHING, other, Seeds(seed)("choice"))


def among(pixels: Tensor, others: Tensor) -> Tensor:
    """For each image, whether it is one of the others."""
    return (pixels[:, None] == others).flatten(2).all(dim=2).any(dim=1)


def test_the_ideal_adversary_has_the_role() -> None:
    learned, validation = chosen(AuxiliaryImages())
    assert torch.equal(learned.pixels, LEARNED.pixels) and torch.equal(learned.labels, LEARNED.labels)
    assert torch.equal(validation.pixels, VALIDATION.pixels)
    assert AuxiliaryImages().title == ""


@pytest.mark.parametrize(("count", "parts"), [(40, (30, 10)), (8, (6, 2)), (500, (90, 30))])
def test_a_small_one_has_some_of_it_in_the_same_proportion(count: int, parts: tuple[int, int]) -> None:
    found = chosen(own(count=count))
    assert tuple(map(len, found)) == parts
    for part, role in zip(found, (LEARNED, VALIDATION), strict=True):
        assert among(part.pixels, role.pixels).all() and len(part.pixels.unique(dim=0)) == len(part)


def test_classes_are_left_out_by_name() -> None:
    for part, role in zip(chosen(own(without=("dog", 3))), (LEARNED, VALIDATION), strict=True):
        assert part.labels.unique().tolist() == [0]
        assert len(part) == int((role.labels == 0).sum())


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 9, 5), (1, 12, 12), (4, 6, 6)])
@pytest.mark.parametrize("attacked", [1, 3])
def test_another_data_set_comes_in_the_targets_size_and_colours(shape: tuple[int, int, int], attacked: int) -> None:
    everything = images(50, (attacked, 6, 6))
    role = everything.at(torch.arange(20)), everything.at(torch.arange(20, 25))
    learned, validation = STRANGE.choose(*role, everything, images(300, shape, seed=1), Seeds(0)("choice"))
    assert (len(learned), len(validation)) == (20, 5)
    for part in (learned, validation):
        assert part.pixels.shape[1:] == (attacked, 6, 6)
        assert float(part.pixels.min()) >= 0 and float(part.pixels.max()) <= 1
        assert part.labels.unique().tolist() == [NO_CLASS]
    assert not among(learned.pixels, validation.pixels).any()


def test_grey_is_as_bright_as_its_colours() -> None:
    colours = Images(torch.eye(3).view(3, 3, 1, 1).expand(3, 3, 6, 6), torch.zeros(3).long(), torch.arange(3), NAMES)
    learned, validation = STRANGE.choose(
        LEARNED.at(torch.arange(2)), VALIDATION.at(torch.arange(1)), EVERYTHING, colours, Seeds(0)("choice")
    )
    found = torch.cat([learned.pixels, validation.pixels])[:, 0, 0, 0]
    torch.testing.assert_close(found.sort().values, torch.tensor([0.114, 0.299, 0.587]))


def test_copies_of_what_is_attacked_are_no_images_of_its_own() -> None:
    mixed = images(30, seed=5)
    pixels = torch.cat([EVERYTHING.pixels[:100], mixed.pixels])
    other = Images(pixels, torch.zeros(130).long(), torch.arange(130), NAMES)
    learned, validation = chosen(STRANGE, other)
    found = torch.cat([learned.pixels, validation.pixels])
    assert len(found) == 30 and not among(found, EVERYTHING.pixels).any()


def test_no_group_of_another_data_set_is_in_both_parts() -> None:
    learned, validation = chosen(STRANGE, images(400, seed=2, group=7))
    assert not torch.isin(learned.groups, validation.groups).any()
    assert len(learned) == 90 and 24 <= len(validation) <= 30


def test_everything_at_once() -> None:
    kind = own(dataset=Phantoms(), count=40, without=("cat",))
    other = images(300, seed=3)
    learned, validation = chosen(kind, other)
    assert (len(learned), len(validation)) == (30, 10)
    assert not among(learned.pixels, other.pixels[other.labels == 0]).any()
    assert kind.title == "knows phantoms; 40 images; without cat"


def test_the_same_stream_chooses_the_same() -> None:
    for kind, other in ((own(count=40), None), (STRANGE, images(300, seed=3))):
        once, again, otherwise = (chosen(kind, other, seed)[0].pixels for seed in (0, 0, 1))
        assert torch.equal(once, again) and not torch.equal(once, otherwise)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(DataError, match="without: 'cow': is no class; use names of cat, dog, 3"):
        chosen(own(without=("cow",)))
    with pytest.raises(DataError, match="leaves 0 images to learn from and 0 to choose by"):
        chosen(own(without=("cat", "dog", "3")))
    with pytest.raises(DataError, match="leaves 0 images"):
        chosen(STRANGE, EVERYTHING)
    for settings in ({"count": 7}, {"without": "cat"}, {"surprise": 1}, {"dataset": {"kind": "nothing"}}):
        with pytest.raises(ValidationError):
            own(**settings)
