"""Images as they lie on disk: JPEG packs, array packs, idx files, a folder per class. Every fault is a DataError."""

import gzip
import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fedsplit.errors import DataError

_SUFFIXES = {".jpeg", ".jpg", ".png", ".bmp", ".pgm", ".ppm", ".tif", ".tiff", ".webp"}
_BROKEN = (
    OSError, ValueError, KeyError, EOFError, MemoryError, NotImplementedError, SyntaxError, struct.error, zlib.error,
    zipfile.BadZipFile, Image.DecompressionBombError,
)  # fmt: skip
_DEEP = ("I", "F")
"""How Pillow's modes of more than 8 bits a channel begin; converting them would clip all that is above 255."""


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

    @contextmanager
    def _opened(self) -> Iterator[np.lib.npyio.NpzFile]:
        # Opened here and not by numpy, which leaves a broken archive open.
        with reading(self.path), self.path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("no archive of arrays")
            with archive:
                yield archive

    def array(self, name: str) -> NDArray[np.generic]:
        """One array, whole."""
        with self._opened() as archive:
            return archive[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an array, read from its header alone."""
        with reading(self.path), zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            return read(file)[0]

    def labels(self, name: str, count: int, classes: int) -> Tensor:
        """(count,) int64, from 0, below `classes`."""
        labels = self.array(name).reshape(-1)
        with reading(self.path):
            if not count or len(labels) != count or not np.issubdtype(labels.dtype, np.integer):
                raise ValueError(f"{name} does not label {count} images")
            if labels.min() < 0 or labels.max() >= classes:
                raise ValueError(f"{name} tells of a class that is not there: {labels.min()} to {labels.max()}")
        return torch.from_numpy(labels.astype(np.int64))

    def jpeg_count(self) -> int:
        """How many JPEG images there are."""
        offsets = self.array("offsets")
        with reading(self.path):
            if offsets.ndim != 1 or len(offsets) < 2 or not np.issubdtype(offsets.dtype, np.integer):
                raise ValueError("offsets does not tell where images begin")
        return len(offsets) - 1

    def jpegs(self, rows: Tensor, mode: str) -> Tensor:
        """The images of these rows: (n, channels, height, width) uint8. mode: "L" for grey, "RGB" for colour."""
        offsets, content = self.array("offsets").tolist(), self.array("jpeg").tobytes()
        with reading(self.path):
            files = (io.BytesIO(content[offsets[row] : offsets[row + 1]]) for row in rows.tolist())
            return _stacked([_pixels(file, mode, None) for file in files])


def download(fetch: Callable[..., object], folder: Path) -> None:
    """Lets torchvision's `fetch` bring its files into `folder`. DataError where it cannot."""
    try:
        fetch(folder, download=True)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        remedy = "check the network and that the folder is writable, or put the files there"
        raise DataError(f"the download failed ({error})", at=str(folder), remedy=remedy) from error


def read_idx_folder(folder: Path) -> tuple[Tensor, Tensor]:
    """MNIST's four files, each gzipped or not. -> images (n, 1, height, width) uint8, labels (n,) int64."""
    images, labels = (
        [read_idx(_plain_or_gzipped(folder / f"{part}-{content}-ubyte")) for part in ("train", "t10k")]
        for content in ("images-idx3", "labels-idx1")
    )
    with reading(folder):
        if any(part.dim() != 3 for part in images) or images[0].shape[1:] != images[1].shape[1:]:
            raise ValueError(f"images of shape {' and '.join(str(tuple(part.shape)) for part in images)}")
        if [tuple(part.shape) for part in labels] != [(len(part),) for part in images]:
            raise ValueError("as many labels as images are needed")
    return torch.cat(images)[:, None], torch.cat(labels).long()


def _plain_or_gzipped(path: Path) -> Path:
    return path if path.exists() else path.with_name(f"{path.name}.gz")


def read_idx(path: Path) -> Tensor:
    """An idx file of bytes, plain or gzipped, as uint8 of the shape that its header tells."""
    with reading(path):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if len(content) < 4 or content[:3] != b"\0\0\x08":
            raise ValueError("no idx file of bytes")
        start = 4 + 4 * content[3]
        shape = [int.from_bytes(content[place : place + 4], "big") for place in range(4, start, 4)]
        values = np.frombuffer(content, np.uint8, offset=start)
        if len(values) != math.prod(shape):
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


def write_sheet(path: Path, images: Tensor, columns: int) -> None:
    """(n, channels, height, width) in [0, 1], grey or in colour, row by row as one PNG, a dark pixel between them."""
    channels, height, width = images.shape[1:]
    rows = -(-len(images) // columns)
    sheet = torch.zeros(channels, rows * (height + 1) - 1, columns * (width + 1) - 1)
    for number, image in enumerate(images):
        top, left = number // columns * (height + 1), number % columns * (width + 1)
        sheet[:, top : top + height, left : left + width] = image
    pixels = (sheet.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels).save(path)


def size_of(path: Path) -> tuple[int, int]:
    """(height, width) of one image file, from its header."""
    with reading(path), Image.open(path) as image:
        return image.height, image.width


def _pixels(file: Path | io.BytesIO, mode: str, size: int | None) -> NDArray[np.uint8]:
    with Image.open(file) as image:
        if image.mode.startswith(_DEEP):
            raise ValueError(f"more than 8 bits a channel: mode {image.mode}")
        converted = image.convert(mode)
        if size is not None and converted.size != (size, size):
            converted = converted.resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(converted)


def _stacked(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    if len({image.shape for image in images}) > 1:
        raise ValueError("its images are not of one size")
    stacked = torch.from_numpy(np.stack(images))
    return stacked[:, None] if stacked.dim() == 3 else stacked.permute(0, 3, 1, 2).contiguous()
