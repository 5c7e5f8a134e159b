"""What a machine needs that does not see the folder of a job."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fedsplit.errors import EngineError
from fedsplit.federation.ledger import Recording
from fedsplit.federation.roles import FederationData
from fedsplit.flower.job import Job
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from tests.federation.builders import bits, federation, plan_of, started


def job_of(folder: Path, data: FederationData | None = None) -> Job:
    folder.mkdir()
    data = data or federation()
    plan, start = started(plan_of(), data.public)
    job = Job(
        protocol=SplitFedV1(),
        plan=plan,
        recording=Recording(),
        class_names=data.public.class_names,
        clients=len(data.holdings),
        folder=folder,
        cell=folder / "cell",
        fingerprint="this",
    )
    job.write(start, data)
    return job


def test_what_is_written_is_read(tmp_path: Path) -> None:
    job, data = job_of(tmp_path / "job"), federation()
    assert job.visible
    assert bits(job.private(1)) == bits(data.holdings[1])
    assert job.prepared(1) is None
    assert bits(job.public()) == bits(data.public)
    assert bits(job.test()) == bits(data.test)
    assert bits(job.start_at_client()) == bits(job.start().client)
    assert bits(job.start()) == bits(started(plan_of(), data.public)[1])


def test_every_client_has_its_rows_and_the_number_of_files_is_that_of_one(tmp_path: Path) -> None:
    data = federation((5, 2, 9, 4))
    job, other = job_of(tmp_path / "job", data), job_of(tmp_path / "other", federation((3,)))
    assert [bits(job.private(client)) for client in range(4)] == [bits(holding) for holding in data.holdings]
    assert len(list(job.folder.iterdir())) == len(list(other.folder.iterdir()))


def test_equipment_stands_for_a_folder_that_is_not_there(tmp_path: Path) -> None:
    job, data = job_of(tmp_path / "job"), federation()
    equipment, start = job.equipment([0, 2]), bits(job.start_at_client())
    shutil.rmtree(tmp_path / "job")
    assert not job.visible
    job.accept(equipment)
    assert bits(job.private(2)) == bits(data.holdings[2])
    assert job.private(1) is None, "rows of a client that lives elsewhere"
    assert bits(job.public()) == bits(data.public)
    assert bits(job.start_at_client()) == start
    job.keep_prepared(0, data.holdings[1])
    assert bits(job.prepared(0)) == bits(data.holdings[1])
    assert not (tmp_path / "job").exists()


def test_equipment_of_an_earlier_job_is_forgotten(tmp_path: Path) -> None:
    earlier, later = job_of(tmp_path / "earlier"), job_of(tmp_path / "later")
    equipment, more = earlier.equipment([0]), later.equipment([0])
    shutil.rmtree(tmp_path / "earlier")
    earlier.accept(equipment)
    later.accept(more)
    assert earlier.private(0) is None


def test_a_full_disk_is_told_in_one_line(tmp_path: Path, fill_disk: Callable[[], None]) -> None:
    job, data = job_of(tmp_path / "job"), federation()
    fill_disk()
    with pytest.raises(EngineError, match=r"/job/prepared-0: cannot be written \(.*File too large.*\); .* TMPDIR"):
        job.keep_prepared(0, data.holdings[0])
    with pytest.raises(EngineError, match=r"/other/start/.*: cannot be written \(File too large\); .* TMPDIR"):
        job_of(tmp_path / "other")
