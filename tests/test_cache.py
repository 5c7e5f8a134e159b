from pathlib import Path

import pytest

from fedsplit.cache import cache, replacing


def test_the_environment_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDSPLIT_CACHE", "~/kept")
    assert cache() == Path.home() / "kept"
    monkeypatch.delenv("FEDSPLIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache() == tmp_path / "fedsplit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache() == Path.home() / ".cache" / "fedsplit"


def test_an_entry_is_there_when_the_block_ends_and_not_before(tmp_path: Path) -> None:
    entry = tmp_path / "some" / "entry"
    with replacing(entry) as folder:
        (folder / "part").write_text("new")
        assert not entry.exists()
    assert (entry / "part").read_text() == "new"
    assert list(entry.parent.iterdir()) == [entry]


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    entry = tmp_path / "entry"
    with replacing(entry) as folder:
        (folder / "part").write_text("old")
    with pytest.raises(KeyError), replacing(entry) as folder:  # noqa: PT012
        (folder / "part").write_text("new")
        raise KeyError
    assert (entry / "part").read_text() == "old"
    assert list(tmp_path.iterdir()) == [entry]


def test_what_was_there_is_gone_whole(tmp_path: Path) -> None:
    entry = tmp_path / "entry"
    for name in ("first", "second"):
        with replacing(entry) as folder:
            (folder / name).touch()
    assert [part.name for part in entry.iterdir()] == ["second"]


def test_a_file_in_the_way_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "entry").write_text("a file")
    with replacing(tmp_path / "entry") as folder:
        (folder / "part").touch()
    assert (tmp_path / "entry" / "part").exists()


def test_of_two_at_the_same_time_one_wins(tmp_path: Path) -> None:
    entry = tmp_path / "entry"
    with replacing(entry) as mine:
        (mine / "part").write_text("mine")
        with replacing(entry) as theirs:
            (theirs / "part").write_text("theirs")
    assert (entry / "part").read_text() in ("mine", "theirs")
    assert list(tmp_path.iterdir()) == [entry]
