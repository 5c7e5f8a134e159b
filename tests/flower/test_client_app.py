"""The client app by itself, called as a worker calls it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("flwr")

import torch
from flwr.app import ConfigRecord, Message, RecordDict

from fedsplit.federation.cohort import Task, Update
from fedsplit.federation.messages import Closing, Crossing, CutGradient, Failed, Opening
from fedsplit.flower import wire
from fedsplit.flower.client_app import app
from fedsplit.flower.grid.array import to_record
from fedsplit.flower.grid.release import FIRST_NODE, identify, new_context, number
from fedsplit.flower.job import Job
from tests.federation.builders import bits
from tests.flower.test_job import job_of

CLIENT = 1


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    identify(1)
    threads = torch.get_num_threads()
    yield job_of(tmp_path / "job")
    torch.set_num_threads(threads)


def asked(job: Job, kind: str, content: RecordDict) -> RecordDict:
    content["job"] = ConfigRecord({"settings": job.model_dump_json()})
    message = Message(content, FIRST_NODE + CLIENT, kind)
    number(message, "1")
    return app(message, new_context(1, CLIENT, 3)).content


def task(job: Job) -> Task:
    start = job.start()
    return Task(Opening(1, CLIENT, start.client, {}), start.server, {})


def test_a_machine_without_the_folder_trains_the_same_once_it_is_equipped(job: Job) -> None:
    sent, equipment = task(job), job.equipment([CLIENT])
    expected = wire.unpack(asked(job, "train.local_round", wire.pack(sent)))
    assert asked(job, "query.sight", RecordDict())["sight"]["visible"]
    elsewhere = job.model_copy(update={"folder": job.folder.parent / "elsewhere"})
    shutil.rmtree(job.folder)
    assert not asked(elsewhere, "query.sight", RecordDict())["sight"]["visible"]
    records = {name: to_record(tensors) for name, tensors in equipment.items()}
    asked(elsewhere, "train.equipment", RecordDict({**records}))
    found = wire.unpack(asked(elsewhere, "train.local_round", wire.pack(sent)))
    assert isinstance(found, Update)
    assert bits(found) == bits(expected)


def test_a_conversation_goes_on_from_turn_to_turn(job: Job) -> None:
    said = wire.unpack(asked(job, "train.opening", wire.pack(task(job).opening)))
    crossings = 0
    while isinstance(said, Crossing):
        crossings += 1
        said = wire.unpack(asked(job, "train.answer", wire.pack(CutGradient(torch.zeros_like(said.smashed)))))
    assert isinstance(said, Closing)
    assert said.steps == crossings > 0


def test_a_failure_is_an_answer(job: Job) -> None:
    broken = task(job)
    state = {"surprise": torch.zeros(1)}
    content = wire.pack(Task(Opening(1, CLIENT, state, {}), broken.server_state, {}))
    said = wire.unpack(asked(job, "train.local_round", content))
    assert isinstance(said, Failed)
    assert said.line.startswith("client 1, round 1: training failed (")
    assert "\n" not in said.line
