"""The engine begins with the command, and nobody hears of it where the scenario is no scenario."""

from pathlib import Path

import pytest

from fedsplit import document, starting
from fedsplit.engines.base import Engine
from fedsplit.engines.inline import Inline
from fedsplit.engines.ray import Ray
from tests import tiny

SCENARIO = Path(__file__).parents[1] / "scenarios" / "digits.yaml"


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    """Engines in the order in which they were begun."""
    found: list[Engine] = []

    def began(engine: Engine) -> None:
        found.append(engine)

    for kind in (Ray, Inline):
        monkeypatch.setattr(kind, "begin", began)
    return found


def test_it_is_the_scenarios_engine_that_begins(begun: list[Engine]) -> None:
    edits = ["engine={kind: ray}", "engine.workers=3"]
    starting.begin(SCENARIO, edits, smoke=False, plugins=True)
    assert begun == [Ray(workers=3)]
    assert begun[0] == tiny.scenario(*edits).engine


def test_a_smoke_test_begins_what_it_runs_on(begun: list[Engine], tmp_path: Path) -> None:
    path = tmp_path / "spread.yaml"
    path.write_text(document.dump(tiny.raw("engine={kind: ray, workers: 3}")))
    starting.begin(path, [], smoke=True, plugins=True)
    starting.begin(path, ["engine.workers=2"], smoke=True, plugins=True)
    assert begun == [Inline(), Ray(workers=2)]


@pytest.mark.parametrize(
    "edit",
    ["engine={kind: nothing}", "engine.workers=0", "engine=ray", "engine", "engine={kind: 'no.such.module:Engine'}"],
)
def test_what_is_wrong_is_said_by_others(begun: list[Engine], edit: str) -> None:
    starting.begin(SCENARIO, [edit], smoke=False, plugins=True)
    starting.begin(Path("nowhere.yaml"), [], smoke=False, plugins=True)
    assert begun == []


def test_no_plugin_is_imported_that_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "untrusted_engine.py").write_text("raise AssertionError('it was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    starting.begin(SCENARIO, ["engine={kind: 'untrusted_engine:Engine'}"], smoke=False, plugins=False)
