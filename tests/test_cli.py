import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import Result
from torch import Generator
from typer.testing import CliRunner

from fedsplit import terminal
from fedsplit.attacks.base import Attack
from fedsplit.catalogue import FAMILIES
from fedsplit.cli import app
from fedsplit.component import shipped_kinds
from fedsplit.document import dump, read
from fedsplit.engines.base import Engine
from fedsplit.engines.flower import Flower
from fedsplit.engines.inline import Inline
from fedsplit.engines.ray import Ray
from fedsplit.records.leak import Asset, Leak
from fedsplit.records.reconstruction import Reconstruction
from fedsplit.scenario import Scenario
from tests import tiny

ROOT = Path(__file__).parents[1]
HERE = "tests.test_cli"


ACTS: list[Callable[[], None]] = []


class Scripted(Attack):
    """Does what the test says, then guesses the mean image."""

    needs: ClassVar = frozenset({Asset.SMASHED})

    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        assert leak.smashed is not None
        ACTS[-1]()
        return Reconstruction(leak.auxiliary.images.mean(dim=0).expand(len(leak.smashed), *leak.image_shape))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with one scenario in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "tiny.yaml").write_text(dump(tiny.raw("protocol.rounds=1", "defenses={}")))
    return tmp_path


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[Scenario]:
    """Scenarios as `check` has read them."""
    found: list[Scenario] = []

    def card(scenario: Scenario, *_: object) -> str:
        found.append(scenario)
        return ""

    monkeypatch.setattr(terminal, "card", card)
    return found


def told(*arguments: str, code: int = 0) -> Result:
    """What the command answers; where it refuses, that is one line and no more."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, (result.output, result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    if code:
        assert result.stderr.startswith("fedsplit: ") and result.stderr.count("\n") == 1, result.stderr
    else:
        assert not result.stderr
    return result


def plain(result: Result) -> str:
    """Without colours, boxes and line breaks."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", result.stdout).split())


def test_help_needs_nothing_that_computes() -> None:
    program = (
        "import sys\nfrom fedsplit.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'pydantic', 'numpy', 'flwr', 'ray', 'matplotlib', 'yaml'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment, timeout=60
    )
    assert done.stdout.endswith("heavy: []\n")
    assert "fedsplit simulate scenarios/digits.yaml" in done.stdout


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("simulate", ("scenario file", "goes on from its last round", "130 interrupted", "runs/NAME")),
        ("simulate", ("--set", "--out", "--engine", "--seed", "--smoke", "--strict", "--no-plugins")),
        ("check", ("threat card", "scenario file", "--set", "--engine", "--seed", "--smoke", "--no-plugins")),
        ("list", ("what a scenario can name", "--json", "schema")),
        ("report", ("again", "folder")),
    ],
)
def test_every_command_says_what_it_does(command: str, words: tuple[str, ...]) -> None:
    shown = plain(CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}))
    for word in words:
        assert word in shown


def test_without_a_command_there_is_help() -> None:
    assert "Usage" in CliRunner().invoke(app, []).output


# Exit codes, one line each


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["simulate", "nothing.yaml"], "fedsplit: nothing.yaml: cannot be read (No such file or directory); "),
        (["check", "."], "fedsplit: .: cannot be read (Is a directory); "),
        (["simulate", "tiny.yaml", "--set", "cut=nope"], "fedsplit: cut: 'nope': no block of this name; "),
        (["check", "tiny.yaml", "--set", "cut=nope"], "fedsplit: cut: 'nope': no block of this name; "),
        (["check", "tiny.yaml", "--set", "protocol.rounds"], "fedsplit: --set: 'protocol.rounds': is not key=value; "),
        (["check", "tiny.yaml", "--set", "protocol.rounds=0"], "fedsplit: protocol.rounds: 0: "),
        (["check", "tiny.yaml", "--set", "name=[red]x[/red]"], "fedsplit: "),
        (["check", "tiny.yaml", "--engine", "nope"], "fedsplit: engine: {'kind': 'nope'}: no engine of this kind; "),
        (["check", "tiny.yaml", "--seed", "-1"], "fedsplit: seeds.0: -1: "),
        (["list", "defense"], "fedsplit: family: 'defense': is no family; use one of datasets, "),
    ],
)
def test_a_scenario_that_cannot_be_is_2(arguments: list[str], line: str) -> None:
    assert told(*arguments, code=2).stderr.startswith(line)


@pytest.mark.parametrize("kind", ["no.such.module:Thing", "json:nothing", "json:JSONDecoder"])
def test_a_broken_plugin_is_3(kind: str) -> None:
    assert kind in told("check", "tiny.yaml", "--set", f"defenses.x={{kind: '{kind}'}}", code=3).stderr


@pytest.mark.parametrize("command", ["simulate", "check"])
def test_without_plugins_nothing_foreign_is_imported(command: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from pathlib import Path\nfrom fedsplit.defenses.base import Defense\nPath('ran').touch()\n"
    (home / "foreign.py").write_text(f"{source}\nclass Idle(Defense):\n    pass\n")
    monkeypatch.delitem(sys.modules, "foreign", raising=False)
    arguments = [command, "tiny.yaml", "--set", "defenses.idle={kind: 'foreign:Idle'}", "--set", "protocol.rounds=1"]
    assert "plug-ins are refused here" in told(*arguments, "--no-plugins", code=3).stderr
    assert not (home / "ran").exists() and not (home / "runs").exists()
    told("check", *arguments[1:])
    assert (home / "ran").exists(), "without the option the same module would have been imported"


def test_without_plugins_shipped_members_are_welcome() -> None:
    told("check", "tiny.yaml", "--no-plugins")


@pytest.mark.parametrize("command", ["simulate", "check"])
def test_data_that_is_not_there_is_4(command: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDSPLIT_DATA", raising=False)
    dataset = f"dataset={{kind: medical_mnist, root: {json.dumps(str(home / 'no'))}}}"
    line = told(command, "tiny.yaml", "--set", dataset, code=4).stderr
    assert "Medical MNIST is not there" in line and "stand_in: phantoms" in line


@pytest.mark.parametrize(
    ("edit", "line"),
    [
        ("partition.clients=121", "fedsplit: partition.clients: 121: are more than the 120 private rows; "),
        ("partition.clients=1000000000000", "fedsplit: partition.clients: 1000000000000: are more than the 120"),
        ("roles.evaluation=0.0001", "fedsplit: roles.evaluation: 0.0001: gets no row of 300; "),
    ],
)
def test_too_little_data_is_4_and_told_by_check(edit: str, line: str) -> None:
    assert told("check", "tiny.yaml", "--set", edit, code=4).stderr.startswith(line)


def test_a_report_of_nothing_is_4(home: Path) -> None:
    assert "is no folder" in told("report", "runs/none", code=4).stderr
    (home / "empty").mkdir()
    told("report", "empty", code=4)


def test_an_attack_that_fails_is_5_an_interrupt_is_130_and_both_can_be_gone_on_from(home: Path) -> None:
    arguments = ["simulate", "tiny.yaml", "--out", "run", "--set", f"attacks=[{{kind: '{HERE}:Scripted'}}]"]

    def fail() -> None:
        raise RuntimeError("several\nlines")

    ACTS.append(fail)
    line = told(*arguments, code=5).stderr
    assert line.startswith(f"fedsplit: attack {HERE}:Scripted on none: failed (RuntimeError: several lines); ")

    def interrupt() -> None:
        raise KeyboardInterrupt

    ACTS.append(interrupt)
    assert "interrupted; the same command goes on" in told(*arguments, code=130).stderr
    assert (home / "run/none-seed-0/checkpoint").is_dir()
    ACTS.append(lambda: None)
    told(*arguments)
    # The mean image does not beat itself, so this attack is never believed.
    line = told(*arguments, "--strict", code=6).stderr
    assert "1 of 1 outcomes are invalid" in line and "report.html" in line


def test_a_place_that_cannot_be_written_to_is_5(home: Path) -> None:
    (home / "file").write_text("")
    for out in ("file", "file/below"):
        line = told("simulate", "tiny.yaml", "--out", out, code=5).stderr
        assert "cannot be written" in line and "--out" in line


def test_a_bug_shows_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> str:
        raise AssertionError("our own mistake")

    monkeypatch.setattr(terminal, "card", broken)
    result = CliRunner().invoke(app, ["check", "tiny.yaml"])
    assert isinstance(result.exception, AssertionError)


# What the commands print


def test_check_prints_card_and_estimate_and_writes_nothing(home: Path) -> None:
    shown = told("check", "tiny.yaml").stdout
    assert "clients hold   rows; their images and labels" in shown
    assert "estimate       1 trainings, 1 attacks" in shown
    assert "the scenario is valid" in shown
    assert {path.name for path in home.iterdir()} == {"tiny.yaml"}


def test_check_says_that_a_stand_in_would_step_in(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDSPLIT_DATA", raising=False)
    missing = f"dataset={{kind: medical_mnist, root: {json.dumps(str(home / 'no'))}, image_size: 8, limit: 300, "
    shown = told("check", "tiny.yaml", "--set", f"{missing}stand_in: phantoms}}").stdout
    assert "synthetic stand-in, not Medical MNIST" in shown


def test_simulate_obeys_its_options_and_report_draws_again(home: Path) -> None:
    engine = "tests.test_scenario:WholeRounds"
    options = ["--set", "targets.count=10", "--seed", "7", "--engine", engine, "--out", "elsewhere/run"]
    shown = told("simulate", "tiny.yaml", *options).stdout
    page = home / "elsewhere/run/report.html"
    assert str(page.relative_to(home)) in " ".join(shown.split()) and page.exists()
    kept = read(home / "elsewhere/run/scenario.yaml")
    assert kept["seeds"] == [7] and kept["targets"] == {"from": "private", "count": 10}
    assert kept["engine"] == {"kind": engine}
    page.unlink()
    again = told("report", "elsewhere/run").stdout
    assert page.exists() and "linear_inverse" in again
    assert not (home / "runs").exists()


SPREAD = "{kind: ray, address: auto, workers: 4}"


@pytest.mark.parametrize(
    ("engine", "arguments", "found"),
    [
        (SPREAD, ["--engine", "ray"], Ray(address="auto", workers=4)),
        (SPREAD, ["--engine", "ray", "--set", "engine.workers=2"], Ray(address="auto", workers=2)),
        (SPREAD, ["--set", "engine.workers=2", "--engine", "flower"], Flower(workers=2)),
        ("{kind: inline}", ["--set", "engine.gpus_per_client=0.5", "--engine", "ray"], Ray(gpus_per_client=0.5)),
        (SPREAD, ["--engine", "inline"], Inline()),
        (SPREAD, ["--engine", "inline", "--set", "engine={kind: flower}"], Flower()),
        (SPREAD, ["--smoke"], Inline()),
        (SPREAD, ["--smoke", "--engine", "ray"], Ray(address="auto", workers=4)),
        (SPREAD, ["--smoke", "--set", "engine.workers=2"], Ray(address="auto", workers=2)),
        ("{kind: inline}", ["--smoke", "--set", "engine.workers=2", "--engine", "ray"], Ray(workers=2)),
    ],
)
def test_the_engine_is_the_one_named_last_with_what_is_set_of_it(
    home: Path, checked: list[Scenario], engine: str, arguments: list[str], found: Engine
) -> None:
    (home / "tiny.yaml").write_text(dump(tiny.raw(f"engine={engine}")))
    told("check", "tiny.yaml", *arguments)
    assert checked[0].engine == found


@pytest.mark.parametrize(
    ("arguments", "seeds"), [([], (0,)), (["--seed", "7"], (7,)), (["--set", "seeds=[3, 4]"], (3, 4))]
)
def test_smoke_runs_the_seeds_that_are_asked_for(
    home: Path, checked: list[Scenario], arguments: list[str], seeds: tuple[int, ...]
) -> None:
    (home / "tiny.yaml").write_text(dump(tiny.raw("seeds=[1, 2]")))
    told("check", "tiny.yaml", "--smoke", *arguments)
    assert checked[0].seeds == seeds


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--set", "dataset.kind=nonsense"], "fedsplit: dataset: "),
        (["--set", "partition=5"], "fedsplit: partition: 5: "),
        (["--set", "protocol.rounds=0"], "fedsplit: protocol.rounds: 0: "),
        (["--set", "attacks.0.rounds=[9]"], "fedsplit: attacks.0.rounds: 9: is after the last round; "),
        (["--engine", "nonsense"], "fedsplit: engine: {'kind': 'nonsense'}: no engine of this kind; "),
        (["--engine", "flower", "--set", "protocol.kind=sequential"], "fedsplit: engine.kind: 'flower': cannot run "),
        (["--seed", "-1"], "fedsplit: seeds.0: -1: "),
    ],
)
def test_smoke_covers_up_no_mistake(arguments: list[str], line: str) -> None:
    assert told("check", "tiny.yaml", "--smoke", *arguments, code=2).stderr.startswith(line)


def test_smoke_covers_up_no_mistake_in_the_file(home: Path) -> None:
    (home / "tiny.yaml").write_text(dump(tiny.raw("engine={kind: ray, works: 2}")))
    assert told("check", "tiny.yaml", "--smoke", code=2).stderr.startswith("fedsplit: engine.works: 2: ")


def test_smoke_needs_no_data(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDSPLIT_DATA", raising=False)
    missing = f"{{kind: image_folder, root: {json.dumps(str(home / 'no'))}, image_size: 8}}"
    told("check", "tiny.yaml", "--smoke", "--set", f"dataset={missing}")
    told("check", "tiny.yaml", "--set", f"dataset={missing}", code=4)


def test_smoke_has_a_folder_of_its_own(home: Path) -> None:
    told("simulate", "tiny.yaml", "--smoke", "--set", "targets.from=test")
    (outcome,) = json.loads((home / "runs/tiny-smoke/outcomes.json").read_text())["outcomes"]
    assert (outcome["round"], outcome["seed"], outcome["targets"]) == (1, 0, 20)


def test_list_names_every_member_of_every_family() -> None:
    shown = CliRunner().invoke(app, ["list"], env={"COLUMNS": "200"}).stdout
    for family in FAMILIES:
        for kind in shipped_kinds(family):
            assert re.search(rf"^{family} +{kind} +\S", shown, re.MULTILINE), (family, kind)


def test_list_one_family_as_json() -> None:
    listed = json.loads(told("list", "defenses", "--json").stdout)
    assert list(listed) == ["defenses"] and set(listed["defenses"]) == set(shipped_kinds("defenses"))
    std = listed["defenses"]["gaussian_noise"]["properties"]["std"]
    assert std["exclusiveMinimum"] == 0 and std["description"].startswith("Noise standard deviation")
