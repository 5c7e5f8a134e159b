"""The script behind `make papers`, without its hours."""

import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from fedsplit.reading import load

DOCS = Path(__file__).parents[1] / "docs"
TINY = """
name: {name}
dataset: {{kind: digits, limit: 300}}
model: {{kind: linear, width: 32}}
cut: rows
protocol: {{kind: splitfed_v1}}
partition: {{kind: equal, clients: 1}}
threats: [{{kind: curious_server}}]
attacks: [{{kind: linear_inverse}}]
targets: {{count: 20}}
engine: {{kind: inline}}
defenses: {{none: {{kind: none}}, noise: {{kind: gaussian_noise, std: {{sweep: [0.1, 0.2]}}}}}}
"""


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def papers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(DOCS)
    return script("papers")


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
    page = tmp_path / "page.md"
    page.write_text("Before.\n\n<!-- tiny -->\nold\n<!-- /tiny -->\n\nBehind.\n")
    monkeypatch.setattr(sys, "argv", ["papers.py", *folders, "--page", str(page)])
    capsys.readouterr()
    papers.main()
    told = capsys.readouterr().out
    assert "none, seed 0: finished before" in told and "none, seed 1" in told
    found = json.loads((tmp_path / "results" / "tiny" / "outcomes.json").read_text())["outcomes"]
    assert [one["seed"] for one in found] == [0, 0, 0, 1, 1, 1]
    assert (tmp_path / "results" / "tiny" / "threat-1.png").read_bytes().startswith(b"\x89PNG")
    table = (tmp_path / "results" / "tiny" / "table.md").read_text()
    assert "| none" in table and "--set 'seeds=[0, 1]' --set 'protocol.rounds=1'" in table
    before, _, rest = page.read_text().partition("<!-- tiny -->\n")
    shown, _, behind = rest.partition("\n<!-- /tiny -->")
    assert (before, behind) == ("Before.\n\n", "\n\nBehind.\n")
    assert shown.startswith("**At the same cost") and shown in table


def test_the_page_of_results_shows_what_was_measured(papers: ModuleType) -> None:
    results = DOCS.parent / "results"
    assert {folder.name for folder in results.iterdir()} <= set(papers.RUNS)
    for name in papers.RUNS:
        shown = script("marked").inside(DOCS / "results.md", name)
        if (results / name).is_dir():
            assert shown.startswith("**At the same cost") and shown in (results / name / "table.md").read_text()
        else:
            assert shown == "Not measured yet."
