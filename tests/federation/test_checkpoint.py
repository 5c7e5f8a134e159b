import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fedsplit.defenses.gaussian_noise import GaussianNoise
from fedsplit.errors import EngineError
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.ledger import Page, Recording
from fedsplit.federation.optimizer import Adam, StochasticGradientDescent
from fedsplit.federation.plan import Plan
from fedsplit.federation.trained import Standing
from fedsplit.models.lenet import LeNet
from fedsplit.protocols.parallel import Parallel
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from tests.federation.builders import StopsAfter, bits, federation, plan_of, train

RECORDING = Recording(training=(1, 3), inference=(3, 5))
KEPT: dict[str, Any] = {"optimizer": Adam(learning_rate=0.01, state="keep"), "defense": GaussianNoise(std=0.1)}


def files(cell: Path) -> set[str]:
    return {str(path.relative_to(cell)) for path in cell.rglob("*") if path.is_file()}


@pytest.mark.parametrize("last", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "plan",
    [
        plan_of(**KEPT),
        plan_of(optimizer=StochasticGradientDescent(momentum=0.9, state="keep"), precision="float64"),
        plan_of(optimizer=StochasticGradientDescent(state="keep")),
        plan_of(optimizer=Adam(learning_rate=0.01), model=LeNet(channels=2, batch_norm=True), cut="norm1"),
    ],
    ids=["adam kept", "momentum kept", "nothing to keep", "reset"],
)
def test_an_interrupted_training_ends_as_an_uninterrupted_one(plan: Plan, last: int, tmp_path: Path) -> None:
    data, protocol = federation(), SplitFedV1(rounds=5, batch_size=6, participation=0.7)
    expected = train(tmp_path / "expected", plan, data, protocol, RECORDING)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, plan, data, protocol, RECORDING, StopsAfter(tmp_path, "this", last))
    found = train(tmp_path, plan, data, protocol, RECORDING, Checkpoint(tmp_path, "this"))
    assert bits(found.standing) == bits(expected.standing)
    assert bits(found.ledger) == bits(expected.ledger)
    assert found.evaluation == expected.evaluation


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    data, protocol = federation(), SplitFedV1(rounds=3, batch_size=6)
    first = train(tmp_path, plan_of(**KEPT), data, protocol, RECORDING)
    before = (tmp_path / "checkpoint/standing-1.safetensors").stat().st_mtime_ns
    again = train(tmp_path, plan_of(**KEPT), data, protocol, RECORDING)
    assert bits(again.standing) == bits(first.standing)
    assert bits(again.ledger) == bits(first.ledger)
    assert (tmp_path / "checkpoint/standing-1.safetensors").stat().st_mtime_ns == before


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    trained = train(tmp_path, plan_of(**KEPT), federation(), SplitFedV1(rounds=3, batch_size=6), RECORDING)
    found = Checkpoint(tmp_path, "this federation").load()
    assert found is not None
    assert bits(found[0]) == bits(trained.standing)
    assert bits(found[1]) == bits(trained.ledger)
    assert set(found[0].memories) == {0, 1, 2}


def test_segments_that_clients_keep_to_themselves_are_loaded_as_they_were_saved(tmp_path: Path) -> None:
    protocol = Parallel(rounds=3, batch_size=6, sync="never")
    trained = train(tmp_path, plan_of(**KEPT), federation(), protocol, RECORDING)
    found = Checkpoint(tmp_path, "this federation").load()
    assert found is not None and set(found[0].apart) == set(found[1].pages[0].apart) == {0, 1, 2}
    assert bits(found[0]) == bits(trained.standing)
    assert bits(found[1]) == bits(trained.ledger)


def test_a_page_without_labels_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    trained = train(tmp_path, plan_of(head="logits"), federation(), recording=RECORDING)
    found = Checkpoint(tmp_path, "this federation").load()
    assert found is not None
    assert bits(found[1]) == bits(trained.ledger)
    assert found[1].pages[0].exchanges[0].labels is None


def test_the_seconds_of_training_are_those_of_all_rounds_whenever_they_were_run(tmp_path: Path) -> None:
    data, protocol = federation(), SplitFedV1(rounds=4, batch_size=6)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, plan_of(), data, protocol, RECORDING, StopsAfter(tmp_path, "this", 2))
    halfway = Checkpoint(tmp_path, "this").load()
    assert halfway is not None and halfway[0].seconds > 0
    # As if the first rounds had taken a day.
    halfway = (replace(halfway[0], seconds=86400.0), halfway[1])
    Checkpoint(tmp_path, "this").save(halfway[0], None)
    whole = train(tmp_path, plan_of(), data, protocol, RECORDING, Checkpoint(tmp_path, "this"))
    assert 86400 < whole.standing.seconds < 86400 + 60
    again = train(tmp_path, plan_of(), data, protocol, RECORDING, Checkpoint(tmp_path, "this"))
    assert again.standing.seconds == whole.standing.seconds, "nothing was trained"


def test_a_standing_of_an_earlier_version_is_not_gone_on_from(tmp_path: Path) -> None:
    train(tmp_path, plan_of(), federation(), recording=RECORDING)
    for path in (tmp_path / "checkpoint").iterdir():
        with safe_open(path, framework="pt") as file:
            meta = json.loads(file.metadata()["fedsplit"])
        del meta["format"], meta["seconds"]
        save_file(load_file(path), path, metadata={"fedsplit": json.dumps(meta)})
    assert Checkpoint(tmp_path, "this federation").load() is None


def test_nothing_saved_is_nothing_loaded(tmp_path: Path) -> None:
    assert Checkpoint(tmp_path / "nowhere", "this").load() is None
    assert not (tmp_path / "nowhere").exists()


def test_a_training_of_something_else_is_not_gone_on_from(tmp_path: Path) -> None:
    data, protocol = federation(), SplitFedV1(rounds=2, batch_size=6)
    train(tmp_path, plan_of(seed=1), data, protocol, RECORDING, Checkpoint(tmp_path, "that"))
    assert Checkpoint(tmp_path, "this").load() is None
    expected = train(tmp_path / "expected", plan_of(seed=2), data, protocol, RECORDING)
    found = train(tmp_path, plan_of(seed=2), data, protocol, RECORDING, Checkpoint(tmp_path, "this"))
    assert bits(found.standing) == bits(expected.standing)


def test_pages_of_something_else_in_the_same_folder_are_left_out(tmp_path: Path) -> None:
    data, protocol = federation(), SplitFedV1(rounds=3, batch_size=6)
    train(tmp_path, plan_of(seed=1), data, protocol, Recording(inference=(1, 2, 3)), Checkpoint(tmp_path, "that"))
    recording = Recording(inference=(3,))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, plan_of(seed=2), data, protocol, recording, StopsAfter(tmp_path, "this", 2))
    found = train(tmp_path, plan_of(seed=2), data, protocol, recording, Checkpoint(tmp_path, "this"))
    assert [page.round for page in found.ledger.pages] == [3]


def test_a_standing_whose_page_another_training_took_is_not_gone_on_from(tmp_path: Path) -> None:
    data, recording = federation(), Recording(inference=(1, 3))
    long, short = (SplitFedV1(rounds=rounds, batch_size=6) for rounds in (4, 1))
    expected = train(tmp_path, plan_of(seed=1), data, long, recording, Checkpoint(tmp_path, "this"))
    train(tmp_path, plan_of(seed=2), data, short, recording, Checkpoint(tmp_path, "that"))
    assert Checkpoint(tmp_path, "this").load() is None
    found = train(tmp_path, plan_of(seed=1), data, long, recording, Checkpoint(tmp_path, "this"))
    assert [page.round for page in found.ledger.pages] == [1, 3]
    assert bits(found.standing) == bits(expected.standing)


def test_a_page_that_was_saved_before_the_interruption_is_made_again(tmp_path: Path) -> None:
    class StopsBetween(Checkpoint):
        """Is interrupted after a page, before the standing that promises it."""

        def save(self, standing: Standing, page: Page | None) -> None:
            if standing.round == 3:
                assert page is not None
                self._save_page(page)
                raise KeyboardInterrupt
            super().save(standing, page)

    data, protocol = federation(), SplitFedV1(rounds=5, batch_size=6)
    expected = train(tmp_path / "expected", plan_of(), data, protocol, RECORDING)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, plan_of(), data, protocol, RECORDING, StopsBetween(tmp_path, "this"))
    found = train(tmp_path, plan_of(), data, protocol, RECORDING, Checkpoint(tmp_path, "this"))
    assert bits(found.ledger) == bits(expected.ledger)


def truncate(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


@pytest.mark.parametrize("name", ["checkpoint/standing-1.safetensors", "ledger/round-000003.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_a_truncated_file_is_passed_over_for_the_round_before_it(name: str, share: float, tmp_path: Path) -> None:
    data, protocol = federation(), SplitFedV1(rounds=3, batch_size=6)
    expected = train(tmp_path, plan_of(**KEPT), data, protocol, RECORDING)
    truncate(tmp_path / name, share)
    before = Checkpoint(tmp_path, "this federation").load()
    assert before is not None
    assert before[0].round == 2
    assert [page.round for page in before[1].pages] == [1]
    again = train(tmp_path, plan_of(**KEPT), data, protocol, RECORDING)
    assert bits((again.standing, again.ledger)) == bits((expected.standing, expected.ledger))


@pytest.mark.parametrize("name", ["checkpoint/standing-{}.safetensors", "ledger/round-000001.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_truncated_files_of_both_rounds_are_told_in_one_line(name: str, share: float, tmp_path: Path) -> None:
    train(tmp_path, plan_of(), federation(), recording=RECORDING)
    for slot in range(2):
        path = tmp_path / name.format(slot)
        truncate(path, share)
    with pytest.raises(EngineError) as caught:
        Checkpoint(tmp_path, "this federation").load()
    assert str(caught.value).startswith(f"{path}: is damaged")
    assert str(caught.value).endswith("delete the cell's folder to train it again")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("metadata", [None, {"other": "x"}, {"fedsplit": "{"}])
def test_a_file_of_another_making_is_told_in_one_line(metadata: Any, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    save_file({"a": torch.zeros(1)}, tmp_path / "checkpoint" / "standing-1.safetensors", metadata=metadata)
    with pytest.raises(EngineError, match="is damaged"):
        Checkpoint(tmp_path, "this").load()


def test_only_finished_files_are_left(tmp_path: Path) -> None:
    train(tmp_path, plan_of(), federation(), SplitFedV1(rounds=3, batch_size=6), RECORDING)
    assert files(tmp_path) == {
        "checkpoint/standing-0.safetensors",
        "checkpoint/standing-1.safetensors",
        "ledger/round-000001.safetensors",
        "ledger/round-000003.safetensors",
    }


def test_a_full_disk_is_told_in_one_line_and_leaves_the_last_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = federation()
    train(tmp_path, plan_of(), data, SplitFedV1(rounds=1, batch_size=6), RECORDING)
    before = files(tmp_path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        EngineError, match=r"standing-0.safetensors: cannot be written \(No space left on device\); free"
    ):
        train(tmp_path, plan_of(), data, SplitFedV1(rounds=2, batch_size=6), RECORDING)
    assert files(tmp_path) == before
    found = Checkpoint(tmp_path, "this federation").load()
    assert found is not None
    assert found[0].round == 1


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "cell").write_text("a file")
    with pytest.raises(EngineError, match="cannot be written"):
        train(tmp_path / "cell", plan_of(), federation())
