"""Images as they lie on disk: JPEG packs, array packs, idx files, a folder per class. Every fault is a DataError."""

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fedsplit.errors import DataError

_SUFFIXES = {".jpeg", ".jpg", ".png", ".bmp", ".pgm", ".ppm", ".tif", ".tiff", ".webp"}
_BROKEN = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, Image.DecompressionBombError)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever is wrong with the file becomes one DataError that names it."""
    try:
        yield
    except DataError:
        raise
    except _BROKEN as error:
        reason = f"cannot be read ({type(error).__name__}: {error})"
        raise DataError(reason, at=str(path), remedy="it is broken or of another kind: get it again") from error


class Pack:
    """The arrays of an `.npz` file, read when asked for; nothing pickled is ever loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path):
            self._file = np.load(path, allow_pickle=False)
            if not isinstance(self._file, np.lib.npyio.NpzFile):
                raise ValueError("no archive of arrays")

    def __contains__(self, name: str) -> bool:
        return name in self._file.files

    def array(self, name: str) -> NDArray[np.generic]:
        """One array, whole."""
        with reading(self.path):
            return self._file[name]

    def labels(self, name: str, count: int) -> Tensor:
        """(count,) int64, from 0."""
        labels = self.array(name).reshape(-1)
        with reading(self.path):
            if len(labels) != count or not np.issubdtype(labels.dtype, np.integer) or (count and labels.min() < 0):
                raise ValueError(f"{name} does not label {count} images")
        return torch.from_numpy(labels.astype(np.int64))

    def jpeg_count(self) -> int:
        """How many JPEG images there are."""
        return len(self.array("offsets")) - 1

    def jpegs(self, rows: Tensor, mode: str) -> Tensor:
        """The images of these rows: (n, channels, height, width) uint8. mode: "L" for grey, "RGB" for colour."""
        offsets, content = self.array("offsets"), self.array("jpeg").tobytes()
        with reading(self.path):
            files = (io.BytesIO(content[offsets[row] : offsets[row + 1]]) for row in rows.tolist())
            return _stacked([_pixels(file, mode, None) for file in files])


def read_idx(path: Path) -> Tensor:
    """An idx file of bytes, plain or gzipped, as uint8 of the shape that its header tells."""
    with reading(path):
        opened = gzip.open(path) if path.suffix == ".gz" else path.open("rb")
        with opened as file:
            content = file.read()
        if len(content) < 4 or content[:3] != b"\0\0\x08":
            raise ValueError("no idx file of bytes")
        start = 4 + 4 * content[3]
        shape = [int.from_bytes(content[place : place + 4], "big") for place in range(4, start, 4)]
        values = np.frombuffer(content, np.uint8, offset=start)
        if len(values) != int(np.prod(shape)):
            raise ValueError(f"its header tells of shape {tuple(shape)}, and it holds {len(values)} bytes")
        return torch.from_numpy(values.reshape(shape).copy())


def class_folders(root: Path) -> dict[str, tuple[Path, ...]]:
    """Image files by the name of the folder they lie in, both in alphabetical order; folders without images are told
    as empty."""
    with reading(root):
        folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
        return {
            folder.name: tuple(sorted(file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES))
            for folder in folders
        }


def read_images(paths: Sequence[Path], mode: str, size: int | None) -> Tensor:
    """(n, channels, height, width) uint8. With `size` every image becomes a square of it, antialiased.

    Without it they must be of one size; DataError where they are not.
    """
    images: list[NDArray[np.uint8]] = []
    for path in paths:
        with reading(path):
            images.append(_pixels(path, mode, size))
    odd = next((index for index, image in enumerate(images) if image.shape != images[0].shape), None)
    if odd is not None:
        reason = f"has the size {images[odd].shape[:2]}, others {images[0].shape[:2]}"
        raise DataError(reason, at=str(paths[odd]), remedy="set image_size, and all are resized to it")
    return _stacked(images)


def size_of(path: Path) -> tuple[int, int]:
    """(height, width) of one image file, from its header."""
    with reading(path), Image.open(path) as image:
        return image.height, image.width


def _pixels(file: Path | io.BytesIO, mode: str, size: int | None) -> NDArray[np.uint8]:
    with Image.open(file) as image:
        converted = image.convert(mode)
        if size is not None and converted.size != (size, size):
            converted = converted.resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(converted)


def _stacked(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    if not images:
        return torch.zeros((0, 1, 1, 1), dtype=torch.uint8)
    if len({image.shape for image in images}) > 1:
        raise ValueError("its images are not of one size")
    stacked = torch.from_numpy(np.stack(images))
    return stacked[:, None] if stacked.dim() == 3 else stacked.permute(0, 3, 1, 2).contiguous()
