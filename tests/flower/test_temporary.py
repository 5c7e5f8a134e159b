import tempfile
from pathlib import Path

import pytest

from fedsplit.errors import EngineError
from fedsplit.flower.session import Session
from fedsplit.flower.simulation import Sticky
from fedsplit.flower.temporary import new_folder


def test_a_folder_is_new_and_where_it_was_asked_for(tmp_path: Path) -> None:
    first, second = new_folder("job-", tmp_path), new_folder("job-", tmp_path)
    assert {first.parent, second.parent} == {tmp_path}
    assert first != second


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=rf"^{tmp_path}/gone/job-\w+: cannot be written \(No such .*\); .* TMPDIR"):
        new_folder("job-", tmp_path / "gone")


def test_so_is_that_there_is_no_place_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    simulation = Sticky(cpus_per_client=1, gpus_per_client=0.0, workers=1, gpus_for_server=0.0, address=None)
    with pytest.raises(EngineError, match=r"^TMPDIR: cannot be written \(No usable temporary directory found\); "):
        Session(simulation)
