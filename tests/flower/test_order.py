from collections.abc import Callable
from pathlib import Path

import pytest

from fedsplit.errors import EngineError
from fedsplit.flower.order import read_files, write_files

FILES = {"one": b"1", "folder/two": b""}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_files(tmp_path / "given", FILES)
    assert read_files(tmp_path / "given") == FILES


def test_a_full_disk_is_told_in_one_line(tmp_path: Path, fill_disk: Callable[[], None]) -> None:
    fill_disk()
    with pytest.raises(EngineError, match=rf"^{tmp_path}/given: cannot be written \(File too large\); .* TMPDIR"):
        write_files(tmp_path / "given", FILES)
