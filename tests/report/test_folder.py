import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fedsplit.errors import DataError
from fedsplit.report.folder import EXHIBITS, OUTCOMES, RunFolder, cell_files, read_outcomes
from tests.report.fixtures import TRIALS, Trial, attacked, joined, renamed, write_run

UNDEFENDED = Trial("none", "linear_inverse", 0.9, 0.96)


def two_cells(root: Path) -> RunFolder:
    write_run(root, TRIALS[:3], seeds=(0, 1), targets=9)
    return RunFolder(root)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    outcome, exhibit = attacked(UNDEFENDED, 0, 9)
    cell = RunFolder(tmp_path).cell("a")
    assert not cell.finished
    cell.keep(cell_files(joined((outcome, exhibit)), [exhibit]))
    assert cell.finished
    assert cell.outcomes() == joined((outcome, exhibit))
    (back,) = cell.exhibits()
    assert back.picks == exhibit.picks
    assert [name for name, _ in back.values] == [name for name, _ in exhibit.values]
    for name in ("nearest", "private", "anchor", "reconstruction", "map", "labels"):
        assert torch.equal(getattr(back, name), getattr(exhibit, name))
    for (_, found), (_, expected) in zip(back.values, exhibit.values, strict=True):
        assert torch.equal(found, expected)


def test_what_would_have_been_seen_is_read_back_where_it_is_known(tmp_path: Path) -> None:
    outcome, exhibit = attacked(UNDEFENDED, 0, 9)
    both = [exhibit, replace(exhibit, clean=exhibit.map + 1)]
    cell = RunFolder(tmp_path).cell("a")
    cell.keep(cell_files(joined((outcome, exhibit), (outcome, exhibit)), both))
    one, other = cell.exhibits()
    assert one.clean is None and other.clean is not None
    assert torch.equal(other.clean, exhibit.map + 1)


def test_join_round_trip(tmp_path: Path) -> None:
    run = two_cells(tmp_path)
    whole = run.join()
    parts = [cell.outcomes().outcomes for cell in run.cells()]
    assert whole.outcomes == tuple(outcome for part in parts for outcome in part)
    assert len(run.exhibits()) == len(whole.outcomes) == 6
    assert run.join() == whole, "the joined file is no cell of its own"


def test_writing_leaves_no_partial_file(tmp_path: Path) -> None:
    run = two_cells(tmp_path)
    assert not list(tmp_path.rglob("*.partial"))
    assert [cell.name for cell in run.cells()] == ["0-seed0", "0-seed1"]


@pytest.mark.parametrize("content", ["", "{", '{"schema": 1}', "[]", "\x00\xff"])
def test_broken_outcomes_are_a_data_error_on_one_line(tmp_path: Path, content: str) -> None:
    run = two_cells(tmp_path)
    (run.cells()[0].path / OUTCOMES).write_text(content)
    assert not run.cells()[0].finished
    with pytest.raises(DataError, match=r"broken.*; delete the file and simulate again") as caught:
        run.join()
    assert "\n" not in str(caught.value)


def test_another_schema_is_refused(tmp_path: Path) -> None:
    run = two_cells(tmp_path)
    file = run.cells()[0].path / OUTCOMES
    file.write_text(file.read_text().replace('"schema": 1', '"schema": 7'))
    with pytest.raises(DataError, match="schema 7"):
        run.join()


def test_broken_exhibits_are_a_data_error(tmp_path: Path) -> None:
    run = two_cells(tmp_path)
    file = run.cells()[0].path / EXHIBITS
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be read"):
        run.exhibits()
    file.unlink()
    with pytest.raises(DataError, match="missing"):
        run.exhibits()


def test_exhibits_of_an_earlier_version_are_a_data_error(tmp_path: Path) -> None:
    run = two_cells(tmp_path)
    file = run.cells()[0].path / EXHIBITS
    with safe_open(file, framework="pt") as stored:
        metadata = stored.metadata()
    kept = {name: tensor for name, tensor in load_file(file).items() if not name.endswith((".map", ".labels"))}
    save_file(kept, file, metadata=metadata)
    with pytest.raises(DataError, match=r"not a file of exhibits.*simulate again"):
        run.exhibits()


def test_outcomes_of_an_earlier_version_are_read_without_what_it_did_not_measure(tmp_path: Path) -> None:
    run = two_cells(tmp_path)
    file = run.cells()[0].path / OUTCOMES
    content = json.loads(file.read_text())
    for outcome in content["outcomes"]:
        del outcome["activity"], outcome["training_seconds"]
    del content["data"]["classes"]
    file.write_text(json.dumps(content))
    found = read_outcomes(file)
    assert found.data.classes == ()
    assert {(len(outcome.activity), outcome.training_seconds) for outcome in found.outcomes} == {(0, None)}


def test_exhibits_of_other_outcomes_are_refused(tmp_path: Path) -> None:
    run = two_cells(tmp_path)
    first = run.cells()[0]
    outcomes = first.outcomes()
    short = outcomes.model_copy(update={"outcomes": outcomes.outcomes[:1]})
    (first.path / OUTCOMES).write_text(short.model_dump_json())
    with pytest.raises(DataError, match="3 exhibits for 1 outcomes"):
        run.exhibits()


def test_an_unfinished_cell_is_counted_and_left_out(tmp_path: Path) -> None:
    run = two_cells(tmp_path)
    (run.cells()[1].path / OUTCOMES).unlink()
    assert run.unfinished() == 1
    assert {outcome.seed for outcome in run.join().outcomes} == {0}


def test_nothing_finished_and_no_folder_are_data_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no cell of this run is finished"):
        RunFolder(tmp_path).join()
    with pytest.raises(DataError, match="no such run folder"):
        RunFolder(tmp_path / "absent").join()


def test_a_stand_in_never_joins_the_real_data(tmp_path: Path) -> None:
    for name, notice in (("a", ""), ("b", "a stand-in")):
        pair = attacked(UNDEFENDED, ord(name), 9)
        RunFolder(tmp_path).cell(name).keep(cell_files(joined(pair, notice=notice), [pair[1]]))
    with pytest.raises(DataError, match="side by side"):
        RunFolder(tmp_path).join()


def test_the_same_outcome_in_two_cells_is_refused(tmp_path: Path) -> None:
    pair = attacked(UNDEFENDED, 0, 9)
    for name in ("a", "b"):
        RunFolder(tmp_path).cell(name).keep(cell_files(joined(pair), [pair[1]]))
    with pytest.raises(DataError, match="there 2 times"):
        RunFolder(tmp_path).join()


def test_versions_of_all_cells_are_kept(tmp_path: Path) -> None:
    for seed, version in ((0, "2.12"), (1, "2.13")):
        pair = renamed(attacked(UNDEFENDED, seed, 9))
        outcomes = joined(pair).model_copy(update={"versions": {"torch": version}})
        RunFolder(tmp_path).cell(str(seed)).keep(cell_files(outcomes, [pair[1]]))
    assert RunFolder(tmp_path).join().versions == {"torch": "2.12 and 2.13"}
