import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from fedsplit import files
from fedsplit.errors import DataError
from tests.datasets.fixtures import (
    encoded,
    labels,
    pictures,
    refusal,
    write_folders,
    write_idx,
    write_mnist,
    write_pack,
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a property, each of which overwrites the last one's file."""
    return tmp_path_factory.mktemp("scratch")


def decoded(content: bytes, mode: str) -> torch.Tensor:
    """The reference: Pillow alone."""
    pixels = np.array(Image.open(io.BytesIO(content)).convert(mode))
    return torch.from_numpy(pixels if mode == "RGB" else pixels[..., None]).permute(2, 0, 1)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_pack_gives_the_pictures_of_the_rows_in_their_order(mode: str, tmp_path: Path) -> None:
    shown = pictures(9, 10, 14, 3)
    write_pack(tmp_path / "pack.npz", shown)
    pack = files.Pack(tmp_path / "pack.npz")
    assert pack.jpeg_count() == 9
    rows = [7, 0, 3]
    expected = torch.stack([decoded(encoded(shown[row]), mode) for row in rows])
    torch.testing.assert_close(pack.jpegs(torch.tensor(rows), mode), expected, rtol=0, atol=0)


@pytest.mark.parametrize("broken", [
    {"offsets": np.array([0.0, 10.0, 20.0])},
    {"offsets": np.array([[0, 10], [10, 20]])},
    {"offsets": np.array([0])},
    {"offsets": np.array(7)},
    {"offsets": np.array([0, 10**9, 2 * 10**9, 3 * 10**9])},
    {"offsets": np.array([500, 400, 300, 200])},
    {"offsets": np.array([0, 0, 0, 0])},
    {"offsets": np.array(["a", "b", "c"])},
    {"jpeg": np.zeros(3000, np.uint8)},
    {"jpeg": np.array([{"a": 1}], dtype=object)},
    {"offsets": np.array([0, None], dtype=object)},
])  # fmt: skip
def test_a_pack_with_wrong_arrays_is_one_line(broken: dict[str, Any], tmp_path: Path) -> None:
    write_pack(tmp_path / "pack.npz", pictures(3, 8, 8), **broken)
    pack = files.Pack(tmp_path / "pack.npz")
    assert "pack.npz" in refusal(lambda: pack.jpegs(torch.arange(pack.jpeg_count()), "L"))


def test_a_pack_of_several_sizes_is_one_line(tmp_path: Path) -> None:
    write_pack(tmp_path / "pack.npz", [pictures(2, 8, 8)[0], pictures(2, 9, 8)[0]])
    assert "one size" in refusal(lambda: files.Pack(tmp_path / "pack.npz").jpegs(torch.arange(2), "L"))


@pytest.mark.parametrize("wrong", [
    np.array([0.0, 1.0, 2.0]), np.array([0, 1]), np.array([0, 1, 3]), np.array([0, -1, 2]), np.array(["a", "b", "c"]),
    np.array([0, 1, 2], dtype=object), np.array([], np.uint8), np.array([[0, 1], [1, 0], [1, 1]]),
])  # fmt: skip
def test_labels_that_do_not_label_are_one_line(wrong: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "pack.npz", labels=wrong)
    refusal(lambda: files.Pack(tmp_path / "pack.npz").labels("labels", 3, 3))


@given(arrays.arrays(np.uint16, st.integers(1, 30), elements=st.integers(0, 500)), st.booleans())
def test_labels_are_whole_numbers_below_the_classes(scratch: Path, found: Any, column: bool) -> None:
    path = scratch / "pack.npz"
    np.savez(path, labels=found[:, None] if column else found)
    read = files.Pack(path).labels("labels", len(found), 501)
    assert read.dtype == torch.int64
    assert read.tolist() == found.tolist()
    if found.max() > 0:
        with pytest.raises(DataError):
            files.Pack(path).labels("labels", len(found), int(found.max()))


def test_an_absent_array_is_one_line(tmp_path: Path) -> None:
    write_pack(tmp_path / "pack.npz", pictures(3, 8, 8))
    pack = files.Pack(tmp_path / "pack.npz")
    assert "surprise" in refusal(lambda: pack.array("surprise"))
    assert "surprise" in refusal(lambda: pack.shape("surprise"))


def test_a_header_tells_the_shape(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "pack.npz", found=np.zeros((3, 0, 5)), single=np.array(4))
    pack = files.Pack(tmp_path / "pack.npz")
    assert pack.shape("found") == pack.array("found").shape == (3, 0, 5)
    assert pack.shape("single") == ()


@pytest.mark.parametrize("write", [
    lambda path: path.write_bytes(b"\x93NUMPY\x01\x00"),
    lambda path: np.save(path.with_suffix(".npy"), np.zeros(3)) or path.with_suffix(".npy").rename(path),
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(b"PK\3\4 and nothing more"),
    lambda path: np.array([{"a": 1}], dtype=object).dump(path),
    lambda path: path.mkdir(),
])  # fmt: skip
def test_what_is_no_pack_is_one_line(write: Callable[[Path], object], tmp_path: Path) -> None:
    write(tmp_path / "pack.npz")
    assert "pack.npz" in refusal(lambda: files.Pack(tmp_path / "pack.npz").array("labels"))


@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=1, max_dims=4, max_side=5)))
def test_idx_comes_back_as_it_was_written(scratch: Path, values: Any) -> None:
    for name in ("some-ubyte", "some-ubyte.gz"):
        path = scratch / name
        write_idx(path, values)
        read = files.read_idx(path)
        assert read.dtype == torch.uint8
        assert read.shape == values.shape
        assert read.numpy().tobytes() == values.tobytes()


@given(st.binary(max_size=40) | st.binary(max_size=12).map(lambda noise: b"\0\0\x08\1\0\0\0" + noise))
def test_arbitrary_bytes_are_no_idx_or_fit_their_header(scratch: Path, noise: bytes) -> None:
    path = scratch / "some-ubyte"
    path.write_bytes(noise)
    start = 4 + 4 * noise[3] if noise[:3] == b"\0\0\x08" and len(noise) > 3 else len(noise) + 1
    shape = [int.from_bytes(noise[place : place + 4], "big") for place in range(4, start, 4)]
    if start <= len(noise) == start + math.prod(shape):
        assert list(files.read_idx(path).shape) == shape
    else:
        refusal(lambda: files.read_idx(path))


def test_an_idx_file_of_floats_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "some-ubyte").write_bytes(bytes([0, 0, 13, 1, 0, 0, 0, 1]) + bytes(4))
    assert "no idx file of bytes" in refusal(lambda: files.read_idx(tmp_path / "some-ubyte"))


def test_gzipped_or_not_an_idx_folder_is_the_same(tmp_path: Path) -> None:
    write_mnist(tmp_path / "plain", "")
    write_mnist(tmp_path / "packed", ".gz")
    plain, packed = files.read_idx_folder(tmp_path / "plain"), files.read_idx_folder(tmp_path / "packed")
    assert torch.equal(plain[0], packed[0])
    assert torch.equal(plain[1], packed[1])
    assert plain[0].shape == (41, 1, 28, 28)
    assert torch.equal(plain[0][:, 0], torch.from_numpy(pictures(41, 28, 28)))
    assert torch.equal(plain[1], torch.from_numpy(labels(41, 10)).long())


@pytest.mark.parametrize(("name", "values"), [
    ("train-images-idx3-ubyte", np.zeros((30, 28, 27), np.uint8)),
    ("train-images-idx3-ubyte", np.zeros((29, 28, 28), np.uint8)),
    ("t10k-images-idx3-ubyte", np.zeros((11, 28), np.uint8)),
    ("t10k-labels-idx1-ubyte", np.zeros(12, np.uint8)),
    ("train-labels-idx1-ubyte", np.zeros((30, 1), np.uint8)),
])  # fmt: skip
def test_idx_files_that_do_not_belong_together_are_one_line(name: str, values: Any, tmp_path: Path) -> None:
    write_mnist(tmp_path, "")
    write_idx(tmp_path / name, values)
    assert str(tmp_path) in refusal(lambda: files.read_idx_folder(tmp_path))


def test_class_folders_are_in_order_and_hold_pictures_only(tmp_path: Path) -> None:
    write_folders(tmp_path, pictures(6, 8, 8), [1, 0, 1, 0, 1, 0], ("b", "a"), "png")
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "c").mkdir()
    (tmp_path / "loose.png").write_bytes(encoded(pictures(2, 8, 8)[0], "PNG"))
    found = files.class_folders(tmp_path)
    assert list(found) == ["a", "b", "c"]
    assert [path.name for path in found["a"]] == ["0000.png", "0002.png", "0004.png"]
    assert found["c"] == ()


def test_lossless_pictures_keep_their_pixels(tmp_path: Path) -> None:
    shown = pictures(5, 11, 7)
    for row, picture in enumerate(shown):
        (tmp_path / f"{row}.png").write_bytes(encoded(picture, "PNG"))
    paths = sorted(tmp_path.iterdir())
    assert torch.equal(files.read_images(paths, "L", None)[:, 0], torch.from_numpy(shown))
    assert files.size_of(paths[0]) == (11, 7)
    grey = files.read_images(paths, "RGB", None)
    assert torch.equal(grey, torch.from_numpy(shown)[:, None].expand(-1, 3, -1, -1))


def test_pictures_of_several_sizes_need_one(tmp_path: Path) -> None:
    for name, size in (("a", 8), ("b", 9)):
        (tmp_path / f"{name}.png").write_bytes(encoded(pictures(2, size, 8)[0], "PNG"))
    paths = sorted(tmp_path.iterdir())
    line = refusal(lambda: files.read_images(paths, "L", None))
    assert "b.png" in line
    assert "image_size" in line
    assert files.read_images(paths, "L", 6).shape == (2, 1, 6, 6)


def test_shrinking_a_picture_averages_what_it_merges(tmp_path: Path) -> None:
    board = (np.indices((40, 40)).sum(0) % 2 * 255).astype(np.uint8)
    (tmp_path / "board.png").write_bytes(encoded(board, "PNG"))
    small = files.read_images([tmp_path / "board.png"], "L", 10).float()
    assert (small - 127.5).abs().max() < 3, "without antialiasing the squares of the board would be black and white"


def test_a_picture_of_16_bits_is_refused_rather_than_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(tmp_path / "deep.png")
    assert "8 bits" in refusal(lambda: files.read_images([tmp_path / "deep.png"], "L", None))


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.1, 0.3, 0.6])
def test_a_truncated_picture_is_one_line(kind: str, kept: float, tmp_path: Path) -> None:
    noise = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    content = encoded(noise, kind)
    path = tmp_path / "some.picture"
    path.write_bytes(content[: int(kept * len(content))])
    assert "some.picture" in refusal(lambda: files.read_images([path], "RGB", None))


@pytest.mark.parametrize("failure", [RuntimeError("corrupted\nfile"), OSError("no route"), ValueError("x")])
def test_a_download_that_fails_is_one_line(failure: Exception, tmp_path: Path) -> None:
    def fetch(folder: Path, *, download: bool) -> None:
        assert (folder, download) == (tmp_path, True)
        raise failure

    assert "download failed" in refusal(lambda: files.download(fetch, tmp_path))


def test_a_bug_is_not_taken_for_a_broken_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError), files.reading(tmp_path):
        raise TypeError("a bug")


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_shows_every_image_in_its_place(tmp_path: Path, channels: int) -> None:
    images = torch.rand(5, channels, 4, 6, generator=torch.Generator().manual_seed(0))
    files.write_sheet(tmp_path / "sheet.png", images, columns=3)
    sheet = decoded((tmp_path / "sheet.png").read_bytes(), "L" if channels == 1 else "RGB")
    assert sheet.shape == (channels, 2 * 5 - 1, 3 * 7 - 1)
    expected = (images * 255).round().to(torch.uint8)
    for number, (row, column) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]):
        assert torch.equal(sheet[:, 5 * row : 5 * row + 4, 7 * column : 7 * column + 6], expected[number])
    assert not sheet[:, 4].any() and not sheet[:, 5:, 14:].any()
