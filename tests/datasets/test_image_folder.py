from pathlib import Path

import pytest

from fedsplit.datasets.image_folder import ImageFolder
from tests.datasets.fixtures import encoded, pictures, refusal, write_folders


def test_an_empty_class_folder_is_one_line_whatever_stands_in(tmp_path: Path) -> None:
    write_folders(tmp_path, pictures(5, 8, 8), [0, 1, 0, 1, 0], "ab", "png")
    (tmp_path / "c").mkdir()
    dataset = ImageFolder(root=tmp_path, stand_in="phantoms")
    for act in (dataset.load, dataset.shape, dataset.classes):
        assert str(tmp_path / "c") in refusal(act)


def test_one_class_is_none(tmp_path: Path) -> None:
    write_folders(tmp_path, pictures(5, 8, 8), [0] * 5, "a", "png")
    assert "one folder per class" in refusal(ImageFolder(root=tmp_path, stand_in="phantoms").load)


def test_images_of_several_sizes_need_one(tmp_path: Path) -> None:
    write_folders(tmp_path, pictures(5, 8, 8), [0, 1, 0, 1, 0], "ab", "png")
    (tmp_path / "a" / "wide.png").write_bytes(encoded(pictures(2, 8, 12)[0], "PNG"))
    dataset = ImageFolder(root=tmp_path, stand_in="phantoms")
    line = refusal(dataset.load)
    assert "wide.png" in line
    assert "image_size" in line
    assert ImageFolder(root=tmp_path, image_size=6).load().pixels.shape == (5, 3, 6, 6)


def test_a_file_in_place_of_the_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "things").touch()
    assert "things" in refusal(ImageFolder(root=tmp_path, folder_name="things", stand_in="phantoms").load)


@pytest.mark.parametrize(("colour", "channels"), [("grey", 1), ("rgb", 3)])
def test_pictures_become_grey_or_colour(colour: str, channels: int, tmp_path: Path) -> None:
    write_folders(tmp_path, pictures(5, 8, 8, 3), [0, 1, 0, 1, 0], "ab", "png")
    images = ImageFolder.model_validate({"root": tmp_path, "colour": colour}).load()
    assert images.pixels.shape == (4, channels, 8, 8)
    assert images.class_names == ("a", "b")
