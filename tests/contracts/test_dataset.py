"""What every data set promises, on a few images of its own on disk; a new member needs a fixture, no test."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import ValidationError

from fedsplit.datasets.base import DATASETS
from fedsplit.records.images import Images
from tests.datasets.fixtures import FIXTURES, Fixture, datasets, refusal

NAMES = [f"{fixture.settings['kind']}-{number}" for number, fixture in enumerate(FIXTURES)]
FILED = [fixture for fixture in FIXTURES if fixture.files]
FILED_NAMES = [name for name, fixture in zip(NAMES, FIXTURES, strict=True) if fixture.files]


@pytest.fixture(params=FIXTURES, ids=NAMES)
def fixture(request: pytest.FixtureRequest, tmp_path: Path) -> Fixture:
    request.param.write(tmp_path)
    return request.param


@pytest.fixture(params=FILED, ids=FILED_NAMES)
def filed(request: pytest.FixtureRequest, tmp_path: Path) -> Fixture:
    request.param.write(tmp_path)
    return request.param


def alike(first: Images, second: Images) -> bool:
    pairs = ((first.pixels, second.pixels), (first.labels, second.labels), (first.groups, second.groups))
    return all(torch.equal(one, other) for one, other in pairs) and first.class_names == second.class_names


def rows_of(images: Images) -> set[tuple[bytes, int]]:
    return {
        (pixels.numpy().tobytes(), label) for pixels, label in zip(images.pixels, images.labels.tolist(), strict=True)
    }


def test_every_member_has_a_fixture() -> None:
    missing = sorted(set(DATASETS.shipped) - {fixture.settings["kind"] for fixture in FIXTURES})
    assert not missing, (
        f"fedsplit/datasets has {', '.join(missing)}, and tests/datasets/fixtures.py nothing to try it on: add a "
        "Fixture to FIXTURES that writes a few images as they would be downloaded, one of them twice"
    )


def test_what_it_loads_is_what_it_says(fixture: Fixture, tmp_path: Path) -> None:
    dataset = fixture.dataset(tmp_path)
    images = dataset.load()
    assert images.pixels.dtype == torch.float32
    assert 0 <= images.pixels.min() < images.pixels.max() <= 1
    assert dataset.shape() == tuple(images.pixels.shape[1:]) == fixture.shape
    assert dataset.classes() == len(images.class_names) == fixture.classes
    assert images.labels.dtype == torch.int64
    assert images.labels.unique().tolist() == list(range(fixture.classes))
    assert len(images.pixels) == len(images.labels) == len(images.groups)
    assert not images.notice
    assert dataset.title


def test_copies_are_dropped_and_counted(fixture: Fixture, tmp_path: Path) -> None:
    images = fixture.dataset(tmp_path).load()
    assert images.duplicates == fixture.copies
    assert len(images) == fixture.count - fixture.copies
    assert len(rows_of(images)) == len(images)


def test_it_loads_the_same_twice(fixture: Fixture, tmp_path: Path) -> None:
    assert alike(fixture.dataset(tmp_path).load(), fixture.dataset(tmp_path).load())


def test_a_limit_draws_some_of_them_and_always_the_same(fixture: Fixture, tmp_path: Path) -> None:
    limit = fixture.count - 3
    some = fixture.dataset(tmp_path, limit=limit).load()
    assert len(some) + some.duplicates == limit
    assert rows_of(some) < rows_of(fixture.dataset(tmp_path).load())
    assert alike(some, fixture.dataset(tmp_path, limit=limit).load())


def test_a_limit_that_leaves_a_class_empty_says_so(fixture: Fixture, tmp_path: Path) -> None:
    dataset = fixture.dataset(tmp_path, limit=fixture.classes - 1)
    assert "larger limit" in refusal(dataset.load)


def test_a_limit_above_all_is_no_limit(fixture: Fixture, tmp_path: Path) -> None:
    assert alike(fixture.dataset(tmp_path, limit=10**6).load(), fixture.dataset(tmp_path).load())


@pytest.mark.parametrize("size", [12, 72])
def test_an_image_size_is_kept(fixture: Fixture, size: int, tmp_path: Path) -> None:
    dataset = fixture.dataset(tmp_path, image_size=size)
    images = dataset.load()
    assert dataset.shape() == tuple(images.pixels.shape[1:]) == (fixture.shape[0], size, size)
    assert 0 <= images.pixels.min() < images.pixels.max() <= 1
    assert len(images) == fixture.count - fixture.copies


def test_a_distance_beyond_all_joins_each_class_and_no_two(fixture: Fixture, tmp_path: Path) -> None:
    images = fixture.dataset(tmp_path, near_duplicates=2.1).load()
    pairs = {*zip(images.groups.tolist(), images.labels.tolist(), strict=True)}
    assert len(pairs) == len(images.groups.unique()) == fixture.classes


def test_without_a_distance_each_image_stands_for_itself(fixture: Fixture, tmp_path: Path) -> None:
    images = fixture.dataset(tmp_path, near_duplicates=None).load()
    assert len(images.groups.unique()) == len(images)


def test_nothing_is_written_beside_the_files(filed: Fixture, tmp_path: Path) -> None:
    def seen() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_mtime_ns, path.stat().st_mode) for path in [tmp_path, *tmp_path.rglob("*")]}

    for path in [tmp_path, *tmp_path.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = seen()
    try:
        filed.dataset(tmp_path).load()
        assert seen() == before
    finally:
        for path in [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())]:
            path.chmod(0o755)


def test_the_environment_names_the_folder(filed: Fixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    placed = filed.dataset(tmp_path).load()
    monkeypatch.setenv("FEDSPLIT_DATA", str(tmp_path))
    assert alike(datasets.validate_python(filed.settings).load(), placed)
    monkeypatch.setenv("FEDSPLIT_DATA", str(tmp_path / "elsewhere"))
    assert alike(filed.dataset(tmp_path).load(), placed), "root goes before the environment"
    assert str(tmp_path / "elsewhere") in refusal(datasets.validate_python(filed.settings).load)


def test_the_cache_is_looked_in_last(filed: Fixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    placed = filed.dataset(tmp_path).load()
    cache = tmp_path.with_name(f"{tmp_path.name}-cache")
    cache.mkdir()
    (cache / "fedsplit").symlink_to(tmp_path)
    monkeypatch.delenv("FEDSPLIT_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    assert alike(datasets.validate_python(filed.settings).load(), placed)


def test_missing_files_are_one_line_that_tells_the_way_out(filed: Fixture, tmp_path: Path) -> None:
    dataset = filed.dataset(tmp_path / "nowhere")
    line = refusal(dataset.load)
    assert "root:" in line
    assert "FEDSPLIT_DATA" in line
    assert "stand_in: phantoms" in line
    assert dataset.title in line


@pytest.mark.parametrize("more", [{}, {"image_size": 20}, {"limit": 30}])
def test_a_stand_in_takes_the_place_of_missing_files(filed: Fixture, more: dict[str, Any], tmp_path: Path) -> None:
    dataset = filed.dataset(tmp_path / "nowhere", stand_in="phantoms", **{"limit": 40, **more})
    images = dataset.load()
    assert images.notice == f"synthetic stand-in, not {dataset.title}"
    assert dataset.shape() == tuple(images.pixels.shape[1:])
    assert dataset.classes() == len(images.class_names) == len(images.labels.unique())
    assert len(images) == dataset.limit
    assert images.pixels.dtype == torch.float32
    assert alike(images, dataset.load())
    assert "image_size" not in more or dataset.shape()[1:] == (20, 20)


def test_a_stand_in_too_small_for_its_classes_is_refused(filed: Fixture, tmp_path: Path) -> None:
    dataset = filed.dataset(tmp_path / "nowhere", stand_in="phantoms", limit=2)
    assert "larger limit" in refusal(dataset.load)


def test_a_stand_in_leaves_files_that_are_there_alone(filed: Fixture, tmp_path: Path) -> None:
    assert alike(filed.dataset(tmp_path, stand_in="phantoms").load(), filed.dataset(tmp_path).load())


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.6])
def test_a_truncated_file_is_an_error_whatever_stands_in(filed: Fixture, kept: float, tmp_path: Path) -> None:
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        content = path.read_bytes()
        path.write_bytes(content[: int(kept * len(content))])
        assert str(tmp_path) in refusal(filed.dataset(tmp_path, stand_in="phantoms").load)
        path.write_bytes(content)
    filed.dataset(tmp_path).load()


def test_a_file_of_another_kind_is_an_error_whatever_stands_in(filed: Fixture, tmp_path: Path) -> None:
    path = next(path for path in sorted(tmp_path.rglob("*")) if path.is_file())
    path.write_bytes(os.urandom(2000))
    assert path.name in refusal(filed.dataset(tmp_path, stand_in="phantoms").load)


def test_it_survives_yaml(fixture: Fixture, tmp_path: Path) -> None:
    dataset = fixture.dataset(tmp_path, limit=7, image_size=9)
    text = yaml.safe_dump(datasets.dump_python(dataset, mode="json"))
    assert datasets.validate_python(yaml.safe_load(text)) == dataset


@pytest.mark.parametrize("wrong", [{"surprise": 1}, {"limit": 0}, {"image_size": 3}, {"near_duplicates": 0.0}])
def test_it_refuses_settings_that_cannot_be(fixture: Fixture, wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        fixture.dataset(tmp_path, **wrong)


def test_members_without_files_refuse_a_folder(tmp_path: Path) -> None:
    for fixture in FIXTURES:
        if not fixture.files:
            for key, value in (("root", str(tmp_path)), ("stand_in", "phantoms")):
                with pytest.raises(ValidationError, match=key):
                    datasets.validate_python({**fixture.settings, key: value})
