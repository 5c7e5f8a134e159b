import pickle
from pathlib import Path

import pytest
import torch

from fedsplit.datasets.cifar10 import CLASSES, Cifar10
from tests.datasets.fixtures import labels, pictures, refusal, write_pack
from tests.datasets.real import ROOT, needs


def test_a_broken_folder_of_batches_is_one_line_whatever_stands_in(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    dataset = Cifar10(root=tmp_path, stand_in="phantoms")
    assert "cifar-10-batches-py" in refusal(dataset.load)
    for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        (tmp_path / "cifar-10-batches-py" / name).write_bytes(b"no pickle")
    assert "cifar-10-batches-py" in refusal(dataset.load)


def test_a_batch_whose_checksum_is_wrong_is_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    (tmp_path / "cifar-10-batches-py").mkdir()
    for name in ("data_batch_1", "test_batch", "batches.meta"):
        (tmp_path / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(Trap()))
    refusal(Cifar10(root=tmp_path).load)
    assert not (tmp_path / "sprung").exists()


def test_classes_are_the_usual_ones_in_the_usual_order(tmp_path: Path) -> None:
    write_pack(tmp_path / "cifar10_jpeg.npz", pictures(41, 32, 32, 3), labels=labels(41, 10))
    images = Cifar10(root=tmp_path).load()
    assert images.class_names == CLASSES == tuple(sorted(CLASSES))
    assert images.labels.tolist() == labels(41, 10)[:-1].tolist()


@pytest.mark.parametrize("numbers", [labels(41, 10) + 1, labels(41, 10).astype("f4"), labels(40, 10)])
def test_labels_that_do_not_fit_are_one_line(numbers: object, tmp_path: Path) -> None:
    write_pack(tmp_path / "cifar10_jpeg.npz", pictures(41, 32, 32, 3), labels=numbers)
    assert "labels" in refusal(Cifar10(root=tmp_path, stand_in="phantoms").load)


@needs("cifar10_jpeg.npz")
def test_a_drawn_part_of_the_real_photographs() -> None:
    images = Cifar10(root=ROOT, limit=2_000).load()
    assert len(images) + images.duplicates == 2_000
    assert torch.bincount(images.labels, minlength=10).min() > 150
    assert (images.pixels[:, 0] - images.pixels[:, 2]).abs().mean() > 0.02, "colours are there"
