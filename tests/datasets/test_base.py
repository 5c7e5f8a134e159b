from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fedsplit.datasets.base import Dataset, Filed, MissingError, Stored
from fedsplit.records.images import Shape
from tests.datasets.fixtures import refusal

PIXELS = torch.randint(0, 256, (12, 1, 8, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) % 3


class Made(Dataset):
    """What a plug-in may hand over, right or wrong."""

    def __init__(self, stored: Stored, /, **settings: object) -> None:
        super().__init__(**settings)
        object.__setattr__(self, "_stored", stored)

    @property
    def title(self) -> str:
        return "made"

    def stored_shape(self) -> Shape:
        return (1, 8, 6)

    def classes(self) -> int:
        return 3

    def read(self) -> Stored:
        return object.__getattribute__(self, "_stored")


def made(pixels: Tensor = PIXELS, labels: Tensor = LABELS, names: str = "abc", owners: Tensor | None = None) -> Stored:
    return Stored(pixels, labels, tuple(names), owners)


def test_pixels_are_levels_over_255() -> None:
    images = Made(made()).load()
    torch.testing.assert_close(images.pixels, PIXELS.double().div(255).float(), rtol=0, atol=1e-7)
    assert torch.equal(images.labels, LABELS)


def test_the_first_of_each_set_of_copies_stays() -> None:
    order = [0, 1, 2, 0, 3, 2, 2, 4]
    images = Made(made(PIXELS[order], torch.tensor([0, 1, 2, 0, 1, 2, 2, 0]))).load()
    assert images.duplicates == 3
    torch.testing.assert_close(images.pixels, PIXELS[[0, 1, 2, 3, 4]] / 255)
    assert images.labels.tolist() == [0, 1, 2, 1, 0]


def test_copies_are_told_at_the_stored_size() -> None:
    """Two images that become alike only when shrunk are two images."""
    twin = PIXELS[:1].clone()
    twin[..., 0, 0] ^= 1
    images = Made(made(torch.cat([PIXELS, twin]), torch.cat([LABELS, LABELS[:1]])), image_size=4).load()
    assert images.duplicates == 0
    assert len(images) == 13


def test_resizing_is_torchs_own_with_antialiasing() -> None:
    images = Made(made(), image_size=4).load()
    reference = F.interpolate(PIXELS.double() / 255, (4, 4), mode="bilinear", antialias=True)
    torch.testing.assert_close(images.pixels.double(), reference, rtol=0, atol=1e-6)


def test_one_persons_images_stay_together_and_near_duplicates_with_them() -> None:
    pixels = PIXELS.clone()
    pixels[3] = pixels[0]
    pixels[3, 0, 0, 0] ^= 1  # a near-duplicate of image 0, of the same class, of another person
    owners = torch.tensor([7, 7, 8, 9, 9, 1, 2, 3, 4, 5, 6, 0])
    alone = Made(made(pixels, owners=owners)).load().groups
    both = Made(made(pixels, owners=owners), near_duplicates=0.1).load().groups
    together = [{0, 1}, {3, 4}], [{0, 1, 3, 4}]
    for groups, expected in zip((alone, both), together, strict=True):
        found = [set((groups == group).nonzero().flatten().tolist()) for group in groups.unique()]
        assert [rows for rows in found if len(rows) > 1] == expected


@pytest.mark.parametrize(("stored", "says"), [
    (made(PIXELS[:, :, :7]), "(1, 7, 6)"),
    (made(PIXELS.expand(-1, 3, -1, -1)), "(3, 8, 6)"),
    (made(labels=LABELS.clone().index_fill(0, torch.tensor([4]), 3)), "3: a label has no class"),
    (made(labels=LABELS - 1), "-1: a label has no class"),
    (made(labels=LABELS % 2), "'c': this class has no image"),
    (made(names="abcd"), "4 classes instead of 3"),
    (made(PIXELS[:0], LABELS[:0]), "'a': this class has no image"),
])  # fmt: skip
def test_a_member_that_hands_over_what_it_did_not_say_is_one_line(stored: Stored, says: str) -> None:
    assert says in refusal(Made(stored).load)


def test_a_limit_leaves_rows_in_their_order() -> None:
    rows = Made(made(), limit=40).chosen(100).tolist()
    assert rows == sorted(set(rows))
    assert len(rows) == 40


class Absent(Filed):
    """Finds what the test puts there."""

    @property
    def title(self) -> str:
        return "absent"

    def filed_shape(self) -> Shape:
        return (3, 10, 12)

    def filed_classes(self) -> int:
        return 4

    def read_files(self) -> Stored:
        self.find("one", "two/three")
        return made()


def test_the_first_candidate_wins(tmp_path: Path) -> None:
    absent = Absent(root=tmp_path)
    (tmp_path / "two").mkdir()
    (tmp_path / "two/three").touch()
    assert absent.find("one", "two/three") == tmp_path / "two/three"
    (tmp_path / "one").touch()
    assert absent.find("one", "two/three") == tmp_path / "one"


def test_a_stand_in_has_the_shape_and_classes_that_are_known(tmp_path: Path) -> None:
    images = Absent(root=tmp_path, stand_in="phantoms", limit=20).load()
    assert images.pixels.shape == (20, 3, 10, 12)
    assert len(images.class_names) == 4
    assert images.notice == "synthetic stand-in, not absent"


def test_a_stand_in_never_takes_the_place_of_broken_files(tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    assert "(1, 8, 6) instead of (3, 10, 12)" in refusal(Absent(root=tmp_path, stand_in="phantoms").load)


def test_a_home_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Absent(root=Path("~/data")).folder == tmp_path / "data"
    monkeypatch.setenv("FEDSPLIT_DATA", "~/other")
    assert Absent().folder == tmp_path / "other"


def test_without_any_setting_the_user_cache_is_looked_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDSPLIT_DATA", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Absent().folder == tmp_path / ".cache/fedsplit"


def test_a_folder_that_may_not_be_entered_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refuse)
    assert "Permission denied" in refusal(Absent(root=tmp_path, stand_in="phantoms").load)


def test_a_name_too_long_for_any_file_is_one_line(tmp_path: Path) -> None:
    assert "too long" in refusal(Absent(root=tmp_path / ("x" * 300)).load)


def test_fetching_happens_only_where_nothing_is_there(tmp_path: Path) -> None:
    calls: list[Path] = []

    def fetch(folder: Path, *, download: bool) -> None:
        calls.append(folder)
        (folder / "one").touch()

    absent = Absent(root=tmp_path)
    assert absent.find("one", fetch=fetch) == absent.find("one", fetch=fetch) == tmp_path / "one"
    assert calls == [tmp_path]
    with pytest.raises(MissingError):
        absent.find("two", fetch=fetch)
