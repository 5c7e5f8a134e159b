"""MNIST and its twin Fashion-MNIST, whose files have the same names in another folder."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from fedsplit.datasets.base import Filed
from fedsplit.datasets.fashion_mnist import FashionMnist
from fedsplit.datasets.mnist import Mnist
from tests.datasets.fixtures import labels, pictures, refusal, write_idx, write_mnist
from tests.datasets.real import ROOT, needs

TWINS = pytest.mark.parametrize(("member", "folder"), [(Mnist, "MNIST/raw"), (FashionMnist, "FashionMNIST/raw")])
FILES = [f"{part}-{content}-ubyte" for part in ("train", "t10k") for content in ("images-idx3", "labels-idx1")]


@TWINS
def test_pixels_and_labels_are_those_in_the_files(member: type[Filed], folder: str, tmp_path: Path) -> None:
    write_mnist(tmp_path / folder, ".gz")
    images = member(root=tmp_path).load()
    assert torch.equal((images.pixels[:, 0] * 255).round().byte(), torch.from_numpy(pictures(41, 28, 28)[:-1]))
    assert images.labels.tolist() == labels(41, 10)[:-1].tolist()


@TWINS
@pytest.mark.parametrize("name", FILES[1:])
def test_an_incomplete_folder_is_one_line_whatever_stands_in(
    member: type[Filed], folder: str, name: str, tmp_path: Path
) -> None:
    write_mnist(tmp_path / folder, "")
    (tmp_path / folder / name).unlink()
    assert name in refusal(member(root=tmp_path, stand_in="phantoms").load)


@TWINS
def test_a_label_without_class_or_images_of_another_shape_are_one_line(
    member: type[Filed], folder: str, tmp_path: Path
) -> None:
    write_mnist(tmp_path / folder, "")
    write_idx(tmp_path / folder / FILES[3], np.full(11, 10, np.uint8))
    assert "10: a label has no class" in refusal(member(root=tmp_path, stand_in="phantoms").load)
    for name, count in ((FILES[0], 30), (FILES[2], 11)):
        write_idx(tmp_path / folder / name, pictures(count, 27, 28))
    write_idx(tmp_path / folder / FILES[3], labels(11, 10))
    assert "(1, 27, 28) instead of (1, 28, 28)" in refusal(member(root=tmp_path, stand_in="phantoms").load)


@TWINS
def test_files_that_are_there_are_not_downloaded(
    member: type[Filed], folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("there is no network")

    for twin in (torchvision.datasets.MNIST, torchvision.datasets.FashionMNIST):
        monkeypatch.setattr(twin, "__init__", refuse)
    assert "download failed" in refusal(member.model_validate({"root": tmp_path, "download": True}).load)
    write_mnist(tmp_path / folder, ".gz")
    assert len(member.model_validate({"root": tmp_path, "download": True}).load()) == 40


@needs("MNIST/raw/train-images-idx3-ubyte.gz")
def test_the_real_digits_are_all_there() -> None:
    images = Mnist(root=ROOT).load()
    assert (len(images), images.duplicates) == (70_000, 0)
    # Training and test counts of LeCun's page, added up.
    assert torch.bincount(images.labels).tolist() == [6903, 7877, 6990, 7141, 6824, 6313, 6876, 7293, 6825, 6958]
