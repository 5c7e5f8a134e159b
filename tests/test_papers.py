"""The script behind `make papers`, without its hours."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fedsplit.reading import load

SCRIPT = Path(__file__).parents[1] / "docs" / "papers.py"
TINY = """
name: {name}
dataset: {{kind: digits, limit: 300}}
model: {{kind: linear, width: 4}}
cut: rows
protocol: {{kind: splitfed_v1}}
partition: {{kind: equal, clients: 1}}
threats: [{{kind: end_to_end}}]
attacks: [{{kind: linear_inverse}}]
targets: {{count: 8}}
engine: {{kind: inline}}
"""


@pytest.fixture
def papers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("papers", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_budget_fits_every_setting(papers: ModuleType) -> None:
    scenarios = [
        load(papers.PAPERS / f"{name}.yaml", assignments=(*papers.BUDGET, *own))
        for name, own in papers.SETTINGS.items()
    ]
    assert [one.threats[0].kind for one in scenarios] == ["curious_server", "end_to_end", "plug_and_play"]
    assert all(one.seeds == (0, 1, 2) and one.dataset.limit == 2700 for one in scenarios)
    assert len({name for name, _ in scenarios[1].rows} & {name for name, _ in scenarios[2].rows}) == 14
    assert {name for name, _ in scenarios[1].rows} <= {name for name, _ in scenarios[0].rows}


def test_what_is_finished_is_not_run_again(
    papers: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY.format(name="tiny"))
    monkeypatch.setattr(papers, "PAPERS", tmp_path)
    monkeypatch.setattr(papers, "SETTINGS", {"tiny": ("protocol.rounds=1",)})
    monkeypatch.setattr(papers, "BUDGET", ("seeds=[0, 1]",))
    folders = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    monkeypatch.setattr(sys, "argv", ["papers.py", *folders, "--set", "seeds=[0]"])
    papers.main()
    monkeypatch.setattr(sys, "argv", ["papers.py", *folders])
    capsys.readouterr()
    papers.main()
    told = capsys.readouterr().out
    assert "none, seed 0: finished before" in told and "none, seed 1" in told
    found = json.loads((tmp_path / "results" / "tiny" / "outcomes.json").read_text())["outcomes"]
    assert [one["seed"] for one in found] == [0, 1]
    table = (tmp_path / "results" / "tiny" / "table.md").read_text()
    assert "| none" in table and "--set 'seeds=[0, 1]' --set 'protocol.rounds=1'" in table


def test_what_is_wrong_is_told_on_one_line(papers: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    monkeypatch.setattr(sys, "argv", ["papers.py", *folders, "--set", "cut=rowz"])
    with pytest.raises(SystemExit, match=r"\Apapers: cut: 'rowz': .*\Z"):
        papers.main()
