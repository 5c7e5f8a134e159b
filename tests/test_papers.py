"""The script behind `make papers`, without its hours."""

import importlib.util
import json
import sys
from collections import Counter
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


def test_every_row_has_its_strengths_in_every_run(papers: ModuleType) -> None:
    split, deployed = (
        load(papers.PAPERS / f"{name}.yaml", assignments=(*papers.BUDGET, *papers.STRENGTHS, *own))
        for name, own in papers.RUNS.items()
    )
    assert {one.kind for one in split.threats} == {"curious_server"}
    assert {one.kind for one in deployed.threats} == {"end_to_end", "plug_and_play"}
    assert all(one.seeds == (0, 1, 2) and one.dataset.limit == 2000 for one in (split, deployed))
    rows = Counter(name.rpartition(" ")[0] if "=" in name else name for name, _ in deployed.rows)
    assert len(rows) == 12
    assert {name for name, count in rows.items() if count == 1} == {"none", "fair reference"}
    assert set(rows.values()) == {1, 3}
    assert {name for name, _ in split.rows} - {name for name, _ in deployed.rows} == {"sca random"}


def test_what_is_finished_is_not_run_again(
    papers: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY.format(name="tiny"))
    monkeypatch.setattr(papers, "PAPERS", tmp_path)
    monkeypatch.setattr(papers, "RUNS", {"tiny": ("protocol.rounds=1",)})
    monkeypatch.setattr(papers, "BUDGET", ("seeds=[0, 1]",))
    monkeypatch.setattr(papers, "STRENGTHS", ())
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
