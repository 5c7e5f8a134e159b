from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fedsplit.datasets.medmnist import MedMnist
from tests.datasets.fixtures import labels, pictures, refusal, write_medmnist


def test_all_three_parts_are_read_in_order(tmp_path: Path) -> None:
    write_medmnist(tmp_path / "some.npz", 28, 28, 3)
    images = MedMnist(root=tmp_path, subset="some").load()
    shown = torch.from_numpy(pictures(25, 28, 28, 3)[:-1]).permute(0, 3, 1, 2)
    assert torch.equal((images.pixels * 255).round().byte(), shown)
    assert images.labels.tolist() == labels(25, 4)[:-1].tolist()


def test_a_folder_of_its_own_is_looked_in_too(tmp_path: Path) -> None:
    (tmp_path / "medmnist").mkdir()
    write_medmnist(tmp_path / "medmnist/some_64.npz", 64, 64)
    assert MedMnist(root=tmp_path, subset="some_64").shape() == (1, 64, 64)


def test_an_absent_subset_is_one_line_that_names_it(tmp_path: Path) -> None:
    write_medmnist(tmp_path / "some.npz", 28, 28)
    assert "other.npz" in refusal(MedMnist(root=tmp_path, subset="other").load)
    assert MedMnist(root=tmp_path, subset="other", stand_in="phantoms", limit=60).load().notice.endswith("other")


@pytest.mark.parametrize("subset", ["../some", "a/b", "", "some.npz", "a b"])
def test_a_subset_is_a_name_and_no_path(subset: str) -> None:
    with pytest.raises(ValidationError):
        MedMnist(subset=subset)


@pytest.mark.parametrize(("arrays", "says"), [
    ({"val_images": np.zeros((5, 28, 28, 28), np.uint8)}, "two-dimensional"),
    ({"train_images": np.zeros((15, 28, 28, 28), np.uint8)}, "two-dimensional"),
    ({"train_images": np.zeros((15, 28, 28, 28, 1), np.uint8)}, "two-dimensional"),
    ({"train_images": np.zeros(15, np.uint8)}, "two-dimensional"),
    ({"train_images": np.zeros((), np.uint8)}, "two-dimensional"),
    ({"train_images": np.zeros((15, 28, 28), np.float32)}, "float32"),
    ({"test_images": np.zeros((5, 14, 14), np.uint8)}, "(5, 14, 14)"),
    ({"test_images": np.zeros((5, 28, 28, 3), np.uint8)}, "(5, 28, 28, 3)"),
    ({"train_images": np.array([None] * 15, dtype=object)}, "two-dimensional"),
    ({"train_labels": np.array([None] * 15, dtype=object)}, "Object arrays cannot be loaded"),
    ({"train_labels": np.zeros((15, 1), np.float64)}, "train_labels"),
    ({"train_labels": np.full((15, 1), -1)}, "train_labels"),
    ({"train_labels": np.zeros((15, 14), np.uint8)}, "train_labels"),
    ({"train_labels": np.full((15, 1), 200, np.uint8)}, "train_labels"),
    ({"train_labels": np.full((15, 1), 6, np.uint8)}, "class 4"),
    ({"test_labels": np.zeros((4, 1), np.uint8)}, "test_labels"),
    ({"val_images": np.zeros((0, 28, 28), np.uint8), "val_labels": np.zeros((0, 1), np.uint8)}, "val_labels"),
])  # fmt: skip
def test_a_wrong_file_is_one_line_whatever_stands_in(arrays: dict[str, object], says: str, tmp_path: Path) -> None:
    write_medmnist(tmp_path / "some.npz", 28, 28, **arrays)
    assert says in refusal(MedMnist(root=tmp_path, subset="some", stand_in="phantoms").load)
