from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fedsplit.choice import strangers
from fedsplit.datasets.lfw import Lfw
from fedsplit.reading import load
from tests.datasets.fixtures import labels, pictures, refusal, write_folders, write_pack
from tests.datasets.real import ROOT, needs

NAMES = ("Zoe", "Ada", "Bob", "Cleo")


def write(root: Path, who: list[int], names: object = NAMES) -> None:
    shown = pictures(len(who) + 1, 64, 64, 3)[:-1]
    write_pack(root / "lfwcrop_64.npz", shown, identity=np.array(who), identity_names=np.array(names))


def test_people_with_fewer_images_are_left_out_and_the_others_numbered_anew(tmp_path: Path) -> None:
    who = [1, 1, 0, 3, 1, 3, 3, 2, 2]
    write(tmp_path, who)
    images = Lfw(root=tmp_path, minimum_images=3).load()
    assert images.class_names == ("Ada", "Cleo")
    assert images.labels.tolist() == [0, 0, 1, 0, 1, 1]
    everybody = Lfw(root=tmp_path, minimum_images=1).load()
    assert everybody.class_names == NAMES
    torch.testing.assert_close(images.pixels, everybody.pixels[[row for row, name in enumerate(who) if name in {1, 3}]])


def test_a_folder_per_person_gives_the_same(tmp_path: Path) -> None:
    who = [0, 0, 1, 1, 1, 2, 2, 2]
    write_folders(tmp_path / "lfw", pictures(9, 64, 64, 3)[:-1], who, NAMES, "jpg")
    assert Lfw(root=tmp_path, minimum_images=2).load().class_names == ("Ada", "Bob", "Zoe")
    assert Lfw(root=tmp_path, minimum_images=3).load().class_names == ("Ada", "Bob")


def test_nobody_with_enough_images_is_one_line(tmp_path: Path) -> None:
    write(tmp_path, [0, 1, 2, 3])
    assert "lower minimum_images" in refusal(Lfw(root=tmp_path, stand_in="phantoms").load)
    (tmp_path / "lfwcrop_64.npz").unlink()
    write_folders(tmp_path / "lfw", pictures(5, 64, 64, 3)[:-1], [0, 1, 2, 3], NAMES, "jpg")
    assert "lower minimum_images" in refusal(Lfw(root=tmp_path, stand_in="phantoms").load)


@pytest.mark.parametrize("who", [[0, 1, 2, 4], [0, 1, 2, -1], [0.0, 1.0, 2.0, 3.0]])
def test_an_identity_without_name_is_one_line(who: list[int], tmp_path: Path) -> None:
    write(tmp_path, who)
    assert "identity" in refusal(Lfw(root=tmp_path, minimum_images=1, stand_in="phantoms").load)


def test_faces_of_several_sizes_need_one(tmp_path: Path) -> None:
    write_folders(tmp_path / "lfw", pictures(7, 64, 64, 3)[:-1], labels(7, 2).tolist()[:-1], NAMES, "jpg")
    (tmp_path / "lfw" / "Ada" / "0001.jpg").write_bytes((tmp_path / "lfw" / "Zoe" / "0000.jpg").read_bytes())
    write_folders(tmp_path / "lfw", pictures(4, 32, 32, 3), [0, 0, 1, 1], ("Ada", "Zoe"), "png")
    assert "image_size" in refusal(Lfw(root=tmp_path, minimum_images=2, stand_in="phantoms").load)
    assert Lfw(root=tmp_path, minimum_images=2, image_size=16).load().pixels.shape[1:] == (3, 16, 16)


def test_people_with_more_images_can_be_left_out_too(tmp_path: Path) -> None:
    who = [1, 1, 0, 3, 1, 3, 2, 2, 2, 2]
    write(tmp_path, who)
    known, others = Lfw(root=tmp_path, minimum_images=3), Lfw(root=tmp_path, minimum_images=1, maximum_images=2)
    assert known.load().class_names == ("Ada", "Bob")
    assert others.load().class_names == ("Zoe", "Cleo")
    assert len(known.load()) + len(others.load()) == len(who)
    (tmp_path / "lfwcrop_64.npz").unlink()
    write_folders(tmp_path / "lfw", pictures(len(who) + 1, 64, 64, 3)[:-1], who, NAMES, "jpg")
    assert set(others.load().class_names) == {"Zoe", "Cleo"}


def test_bounds_that_nobody_is_within_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="maximum_images"):
        Lfw(minimum_images=3, maximum_images=2)
    write(tmp_path, [0, 0, 1, 1, 1])
    assert "at most 5" in refusal(Lfw(root=tmp_path, minimum_images=4, maximum_images=5).load)


def test_stand_ins_of_different_people_are_different_images(tmp_path: Path) -> None:
    some, others = (
        Lfw(root=tmp_path, stand_in="phantoms", limit=60),
        Lfw(root=tmp_path, stand_in="phantoms", limit=60, maximum_images=19),
    )
    assert len(strangers(others.load(), some.load())) == 60


@needs("lfwcrop_64.npz")
def test_no_real_person_of_the_scenario_is_known_to_the_adversary() -> None:
    scenario = load(Path(__file__).parents[2] / "scenarios" / "faces.yaml")
    private, (other,) = scenario.dataset.load(), scenario.others
    own = other.load()
    assert not {*private.class_names} & {*own.class_names}
    assert len(own) > len(private) > 2000
    assert all(threat.auxiliary.dataset == other for threat in scenario.threats)


@needs("lfwcrop_64.npz")
@pytest.mark.parametrize(("minimum", "people", "count"), [(10, 158, 4_324), (30, 34, 2_370)])
def test_the_real_people_are_as_many_as_published(minimum: int, people: int, count: int) -> None:
    dataset = Lfw(root=ROOT, minimum_images=minimum)
    images = dataset.load()
    assert len(images) + images.duplicates == count
    assert dataset.classes() == len(images.class_names) == people
