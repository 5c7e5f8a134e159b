"""A tiny set on disk for every member of the family, as it would be downloaded. Add one for each new member."""

import gzip
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter

from fedsplit.datasets.base import AnyDataset, Dataset
from fedsplit.errors import DataError
from fedsplit.records.images import Shape

Picture = NDArray[np.uint8]

datasets: TypeAdapter[Dataset] = TypeAdapter(AnyDataset)


@dataclass(frozen=True)
class Fixture:
    """settings: of the member, without `root`. count: images that `write` writes, of which `copies` repeat another."""

    settings: dict[str, Any]
    write: Callable[[Path], None]
    count: int
    shape: Shape
    classes: int
    copies: int = 1
    files: bool = True

    def dataset(self, root: Path, **more: Any) -> Dataset:
        placed = {"root": str(root)} if self.files else {}
        return datasets.validate_python({**self.settings, **placed, **more})


def pictures(count: int, *shape: int) -> Picture:
    """(count, *shape): different from each other, smooth enough to survive JPEG; the last one repeats the first."""
    rng = np.random.Generator(np.random.PCG64(count))
    coarse = rng.integers(0, 256, (count, 2, 2, *shape[2:]), dtype=np.uint8)
    fine = coarse.repeat(-(-shape[0] // 2), axis=1)[:, : shape[0]].repeat(-(-shape[1] // 2), axis=2)[:, :, : shape[1]]
    fine[-1] = fine[0]
    return fine


def labels(count: int, classes: int) -> NDArray[np.uint8]:
    """In turn; the last one, whose picture is a copy, is of the first one's class."""
    numbers = np.arange(count, dtype=np.uint8) % classes
    numbers[-1] = numbers[0]
    return numbers


def encoded(picture: Picture, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind)
    return buffer.getvalue()


def write_pack(path: Path, shown: Sequence[Picture], **arrays: Any) -> None:
    """The JPEG pack, and the arrays beside it; an array of the same name takes the place of the pack's own."""
    jpegs = [encoded(picture) for picture in shown]
    pack: dict[str, Any] = {
        "jpeg": np.frombuffer(b"".join(jpegs), np.uint8),
        "offsets": np.cumsum([0, *map(len, jpegs)]),
    }
    np.savez(path, **{**pack, **arrays})


def write_idx(path: Path, values: NDArray[np.uint8]) -> None:
    """Gzipped where the name ends so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    content += values.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_folders(root: Path, shown: Picture, numbers: Sequence[int], names: Sequence[str], ending: str) -> None:
    for row, (picture, number) in enumerate(zip(shown, numbers, strict=True)):
        folder = root / names[number]
        folder.mkdir(parents=True, exist_ok=True)
        kind = "PNG" if ending == "png" else "JPEG"
        (folder / f"{row:04}.{ending}").write_bytes(encoded(picture, kind))


MEDICAL_NAMES = ("AbdomenCT", "BreastMRI", "CXR", "ChestCT", "Hand", "HeadCT")
PEOPLE = ("Ada", "Bob", "Cleo")


def _medical_packed(root: Path) -> None:
    names = np.array(MEDICAL_NAMES)
    write_pack(root / "medical_mnist.npz", pictures(25, 64, 64), labels=labels(25, 6), class_names=names)


def _cifar10(root: Path) -> None:
    write_pack(root / "cifar10_jpeg.npz", pictures(41, 32, 32, 3), labels=labels(41, 10), split=labels(41, 2))


def _lfw(root: Path) -> None:
    """Three people of eight images each (and a copy), and Dan with one image, who is left out."""
    who = np.append(labels(25, 3), 3).astype(np.int32)
    shown = np.concatenate([pictures(25, 64, 64, 3), pictures(3, 64, 64, 3)[1:2]])
    write_pack(root / "lfwcrop_64.npz", shown, identity=who, identity_names=np.array([*PEOPLE, "Dan"]))


def write_mnist(folder: Path, ending: str) -> None:
    shown, numbers = pictures(41, 28, 28), labels(41, 10)
    for part, rows in (("train", slice(None, 30)), ("t10k", slice(30, None))):
        write_idx(folder / f"{part}-images-idx3-ubyte{ending}", shown[rows])
        write_idx(folder / f"{part}-labels-idx1-ubyte{ending}", numbers[rows])


def write_medmnist(path: Path, *shape: int, **arrays: Any) -> None:
    shown, numbers = pictures(25, *shape), labels(25, 4)[:, None]
    parts = {"train": slice(0, 15), "val": slice(15, 20), "test": slice(20, 25)}
    found: dict[str, Any] = {f"{part}_images": shown[rows] for part, rows in parts.items()}
    found |= {f"{part}_labels": numbers[rows] for part, rows in parts.items()}
    np.savez(path, **{**found, **arrays})


def _nothing(root: Path) -> None:
    del root


_BY_PERSON = {"kind": "lfw", "minimum_images": 5}
FIXTURES = (
    Fixture({"kind": "digits"}, _nothing, 1797, (1, 8, 8), 10, copies=0, files=False),
    Fixture({"kind": "phantoms", "count": 60}, _nothing, 60, (1, 28, 28), 6, copies=0, files=False),
    Fixture({"kind": "medical_mnist"}, _medical_packed, 25, (1, 64, 64), 6),
    Fixture(
        {"kind": "medical_mnist", "near_duplicates": None},
        lambda root: write_folders(root, pictures(25, 64, 64), labels(25, 6).tolist(), MEDICAL_NAMES, "jpeg"),
        25,
        (1, 64, 64),
        6,
    ),
    Fixture({"kind": "mnist"}, lambda root: write_mnist(root / "MNIST/raw", ""), 41, (1, 28, 28), 10),
    Fixture(
        {"kind": "mnist", "download": False}, lambda root: write_mnist(root / "MNIST/raw", ".gz"), 41, (1, 28, 28), 10
    ),
    Fixture({"kind": "fashion_mnist"}, lambda root: write_mnist(root / "FashionMNIST/raw", ".gz"), 41, (1, 28, 28), 10),
    Fixture({"kind": "cifar10"}, _cifar10, 41, (3, 32, 32), 10),
    Fixture(_BY_PERSON, _lfw, 25, (3, 64, 64), 3),
    Fixture(
        _BY_PERSON,
        lambda root: write_folders(root / "lfw", pictures(25, 64, 64, 3), labels(25, 3).tolist(), PEOPLE, "jpg"),
        25,
        (3, 64, 64),
        3,
    ),
    Fixture(
        {"kind": "medmnist", "subset": "greymnist"},
        lambda root: write_medmnist(root / "greymnist.npz", 28, 28),
        25,
        (1, 28, 28),
        4,
    ),
    Fixture(
        {"kind": "medmnist", "subset": "colourmnist"},
        lambda root: write_medmnist(root / "colourmnist.npz", 28, 28, 3),
        25,
        (3, 28, 28),
        4,
    ),
    Fixture(
        {"kind": "image_folder", "folder_name": "things", "colour": "grey"},
        lambda root: write_folders(root / "things", pictures(13, 20, 24), labels(13, 3).tolist(), "abc", "png"),
        13,
        (1, 20, 24),
        3,
    ),
    Fixture(
        {"kind": "image_folder"},
        lambda root: write_folders(root, pictures(13, 20, 24, 3), labels(13, 3).tolist(), "abc", "jpg"),
        13,
        (3, 20, 24),
        3,
    ),
)


def refusal(act: Callable[[], object]) -> str:
    """The one line that a DataError says when `act` is tried."""
    with pytest.raises(DataError) as caught:
        act()
    line = str(caught.value)
    assert "\n" not in line
    assert caught.value.remedy
    return line
