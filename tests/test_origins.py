"""Files and plug-ins that changed since: what was finished with them is not finished any more."""

from pathlib import Path

import pytest

from fedsplit.laboratory import Laboratory, _training
from fedsplit.origins import origins
from tests import tiny

PLUGIN = """
from fedsplit.defenses.base import Defense


class Own(Defense):
    factor: float = 1.0

    def release(self, smashed, rng):
        return smashed * {factor}
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / f"own_{tmp_path.name}.py"
    path.write_text(PLUGIN.format(factor="1.0"))
    return path


def keys(*settings: str, row: str = "row") -> tuple[str, str]:
    scenario = tiny.scenario(*settings)
    cell = next(cell for cell in scenario.cells if cell.row == row)
    lab = Laboratory(scenario, [scenario.dataset.load()], scenario.engine)
    return lab.essence(cell), _training(scenario, cell, "the same images")


def test_a_defense_of_ones_own_that_was_edited_is_trained_and_attacked_again(plugin: Path) -> None:
    settings = (f"defenses={{row: {{kind: '{plugin.stem}:Own'}}}}",)
    before, undefended = keys(*settings), keys(*settings, row="none")
    assert keys(*settings) == before
    plugin.write_text(PLUGIN.format(factor="0.0"))
    assert all(new != old for new, old in zip(keys(*settings), before, strict=True))
    assert keys(*settings, row="none") == undefended


def test_another_file_of_the_same_name_is_another_attack_on_the_same_training(tmp_path: Path) -> None:
    weights = tmp_path / "inception.safetensors"
    weights.write_bytes(b"one")
    settings = (f"metrics=[{{kind: psnr}}, {{kind: fid, weights: '{weights}'}}]", "defenses={row: {kind: none}}")
    essence, training = keys(*settings)
    weights.write_bytes(b"another")
    assert keys(*settings)[0] != essence
    assert keys(*settings)[1] == training


def test_shipped_code_is_no_matter_and_every_line_comes_once(plugin: Path) -> None:
    own = f"{{kind: '{plugin.stem}:Own'}}"
    scenario = tiny.scenario(f"defenses={{a: {own}, b: [{own}, {{kind: gaussian_noise, std: 0.1}}]}}")
    (line,) = origins(scenario, without={"dataset"})
    assert line.startswith(f"{plugin.stem}:Own ") and len(line.split()[1]) == 64
    assert origins(tiny.scenario("defenses={}")) == ()
