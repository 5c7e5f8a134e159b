import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from fedsplit.datasets.medical_mnist import MedicalMnist
from fedsplit.errors import DataError
from tests.datasets.fixtures import MEDICAL_NAMES, labels, pictures, refusal, write_folders, write_pack
from tests.datasets.real import ROOT, needs


def write(root: Path, **arrays: object) -> MedicalMnist:
    pack = {"labels": labels(25, 6), "class_names": np.array(MEDICAL_NAMES), **arrays}
    write_pack(root / "medical_mnist.npz", pictures(25, 64, 64), **pack)
    return MedicalMnist(root=root, stand_in="phantoms")


@pytest.mark.parametrize("place", [".", "medical_mnist", "archive"])
def test_folders_and_pack_hold_the_same_images(place: str, tmp_path: Path) -> None:
    packed = write(tmp_path).load()
    (tmp_path / "medical_mnist.npz").unlink()
    write_folders(tmp_path / place, pictures(25, 64, 64), labels(25, 6).tolist(), MEDICAL_NAMES, "jpeg")
    folders = MedicalMnist(root=tmp_path).load()
    assert folders.class_names == packed.class_names == MEDICAL_NAMES
    order = packed.labels.argsort(stable=True)
    torch.testing.assert_close(folders.pixels, packed.pixels[order], rtol=0, atol=0)
    assert torch.equal(folders.labels, packed.labels[order])


@pytest.mark.parametrize(("arrays", "says"), [
    ({"labels": labels(25, 6) + 1}, "a class that is not there"),
    ({"labels": labels(25, 6).astype(np.float32)}, "does not label"),
    ({"labels": labels(25, 6).astype(object)}, "Object arrays cannot be loaded"),
    ({"labels": labels(24, 6)}, "does not label"),
    ({"labels": labels(25, 5)}, "HeadCT"),
    ({"class_names": np.array(MEDICAL_NAMES[:5])}, "a class that is not there"),
    ({"class_names": np.array(MEDICAL_NAMES, dtype=object)}, "Object arrays cannot be loaded"),
])  # fmt: skip
def test_a_wrong_pack_is_one_line_whatever_stands_in(arrays: dict[str, object], says: str, tmp_path: Path) -> None:
    assert says in refusal(write(tmp_path, **arrays).load)


def test_images_of_another_size_are_one_line(tmp_path: Path) -> None:
    write_pack(tmp_path / "medical_mnist.npz", pictures(25, 32, 32), labels=labels(25, 6), class_names=MEDICAL_NAMES)
    assert "(1, 32, 32) instead of (1, 64, 64)" in refusal(MedicalMnist(root=tmp_path, stand_in="phantoms").load)


@pytest.mark.parametrize("name", MEDICAL_NAMES)
def test_a_missing_or_empty_class_folder_is_one_line_whatever_stands_in(name: str, tmp_path: Path) -> None:
    write_folders(tmp_path, pictures(25, 64, 64), labels(25, 6).tolist(), MEDICAL_NAMES, "jpeg")
    shutil.rmtree(tmp_path / name)
    assert name in refusal(MedicalMnist(root=tmp_path, stand_in="phantoms").load)
    (tmp_path / name).mkdir()
    assert name in refusal(MedicalMnist(root=tmp_path, stand_in="phantoms").load)


def test_nothing_pickled_is_ever_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    dataset = write(tmp_path, labels=np.array([Trap()] * 25, dtype=object))
    with pytest.raises(DataError):
        dataset.load()
    assert not (tmp_path / "sprung").exists()


@needs("medical_mnist.npz")
def test_of_58954_real_images_440_are_copies() -> None:
    images = MedicalMnist(root=ROOT, image_size=8, near_duplicates=None).load()
    assert (len(images), images.duplicates) == (58_514, 440)
    # 10,000 each but 8,954 of breast MRI, without the copies: 346 of abdomen CT, 1 of CXR, 93 of head CT.
    assert torch.bincount(images.labels).tolist() == [9_654, 8_954, 9_999, 10_000, 10_000, 9_907]
    assert images.class_names == MEDICAL_NAMES


@needs("medical_mnist.npz")
def test_no_group_of_real_slices_swallows_a_class() -> None:
    images = MedicalMnist(root=ROOT, image_size=28, limit=12_000).load()
    sizes = torch.bincount(torch.unique(images.groups, return_inverse=True)[1])
    assert 2 <= sizes.max() < 100
    assert len(images) + images.duplicates == 12_000
