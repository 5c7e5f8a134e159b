"""Images arrive as they were, and an assignment is done on those that are meant."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from fedsplit.cargo import loaded, unloaded
from fedsplit.errors import DataError
from fedsplit.laboratory import Assignment, Laboratory, do_elsewhere
from fedsplit.records.images import Images
from tests import tiny
from tests.absent import VARIABLE

OTHERS = "threats=[{kind: curious_server, auxiliary: {dataset: {kind: 'tests.absent:SomewhereDigits', limit: 200}}}]"
DIGITS = "dataset={kind: 'tests.absent:SomewhereDigits', limit: 200}"


def test_images_arrive_as_they_were() -> None:
    pixels = torch.rand(5, 2, 3, 4).transpose(2, 3)
    images = Images(pixels, torch.arange(5), torch.arange(5) // 2, ("a", "b"), duplicates=3, notice="words")
    found = unloaded(dict(loaded(images)))
    assert torch.equal(found.pixels, images.pixels)
    assert torch.equal(found.labels, images.labels)
    assert torch.equal(found.groups, images.groups)
    assert (found.class_names, found.duplicates, found.notice) == (("a", "b"), 3, "words")


@pytest.mark.parametrize("there", ["nothing", "others", "here"])
@pytest.mark.parametrize("attacked", [DIGITS, f"dataset={{kind: phantoms, image_size: 8, count: 300}}|{OTHERS}"])
def test_an_assignment_is_done_on_the_images_that_are_meant(
    there: str, attacked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "here")
    scenario = tiny.scenario(*attacked.split("|"), "protocol.rounds=1")
    lab = Laboratory(scenario, [dataset.load() for dataset in scenario.datasets], scenario.engine)
    cell = next(iter(scenario.cells)).folder
    # By a name of its own, so that what another test's process knows is of no use.
    text = json.dumps({**scenario.dump(), "name": there})
    assignment = Assignment(scenario=text, cell=cell, folder=tmp_path / "there", sources=lab.sources)
    monkeypatch.setenv(VARIABLE, there)
    if there != "here":
        with pytest.raises(DataError):
            do_elsewhere(assignment.model_dump_json(), {})
    found = do_elsewhere(assignment.model_dump_json(), lab.supplies if there != "here" else {})
    expected = lab.do(assignment.model_copy(update={"folder": tmp_path / "here"}), {})
    trained, meant = (
        [load(content) for name, content in sorted(files.items()) if name.endswith(".safetensors")]
        for files in (found, expected)
    )
    assert trained
    assert all(torch.equal(one[name], other[name]) for one, other in zip(trained, meant, strict=True) for name in other)
