import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedsplit.cli import app
from fedsplit.defenses.base import DEFENSES
from fedsplit.document import dump, parse
from tests import tiny

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "extending.md").read_text()
FAST = ["--smoke", "--set", "attacks=[{kind: linear_inverse}]", "--set", "defenses={}"]


def block(language: str) -> str:
    """The first block of this language in the document."""
    found = re.search(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clipped_noise.py").write_text(block("python"))
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "digits.yaml").write_text((ROOT / "scenarios" / "digits.yaml").read_text())
    return tmp_path


def rows(run: Path) -> dict[str, bool]:
    """Whether the outcome of each row is valid."""
    return {each["defense"]: each["valid"] for each in json.loads((run / "outcomes.json").read_text())["outcomes"]}


def test_a_defense_takes_fewer_than_25_lines() -> None:
    code = [line for line in block("python").splitlines() if line.strip()]
    assert 5 < len(code) < 25


def test_the_documented_command_runs_the_documented_defense(folder: Path) -> None:
    prompt, program, command, *arguments = shlex.split(block("console"))
    assert (prompt, program, command, arguments[0]) == ("$", "fedsplit", "simulate", "scenarios/digits.yaml")
    python = [sys.executable, "-c", "from fedsplit.cli import main; main()"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*python, command, arguments[0], *FAST, *arguments[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert rows(folder / "runs" / "digits-smoke") == {"none": True, "clipped": True}
    assert "clipped" in done.stdout


@pytest.fixture
def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As if the document's package had been installed: its module and its entry point on the path."""
    group, line = block("toml").strip().splitlines()
    entry = re.fullmatch(r'(\w+) = "([\w.:]+)"', line)
    assert group == '[project.entry-points."fedsplit.defenses"]' and entry is not None
    information = folder / "clipped_noise-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: clipped_noise\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[fedsplit.defenses]\n{entry[1]} = {entry[2]}\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.chdir(folder)
    monkeypatch.delitem(sys.modules, "clipped_noise", raising=False)
    # The family has looked for installed members before, and must look again before and after.
    monkeypatch.setitem(DEFENSES.__dict__, "entry_points", None)
    monkeypatch.delitem(DEFENSES.__dict__, "entry_points")
    return folder


def test_an_installed_package_is_named_by_its_entry_point(installed: Path) -> None:
    (installed / "tiny.yaml").write_text(dump(tiny.raw("defenses={c: {kind: clipped_noise, ratio: 0.5}}")))
    result = CliRunner().invoke(app, ["simulate", "tiny.yaml", "--set", "protocol.rounds=1"])
    assert result.exit_code == 0, result.output
    assert set(rows(installed / "runs" / "tiny")) == {"none", "c"}
    assert "clipped_noise:ClippedNoise" in (installed / "runs" / "tiny" / "scenario.yaml").read_text()
    refused = CliRunner().invoke(app, ["simulate", "tiny.yaml", "--no-plugins"])
    assert refused.exit_code == 3 and "plug-ins are refused here" in refused.stderr


def test_the_documented_rows_are_a_sweep(installed: Path) -> None:
    documented = parse(block("yaml"), at="docs")
    assert isinstance(documented, dict)
    names = [name for name, _ in tiny.scenario(f"defenses={json.dumps(documented['defenses'])}").rows]
    assert names == ["none", "clipped ratio=0.25", "clipped ratio=1.0"]
