import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fedsplit import catalogue
from fedsplit.catalogue import FAMILIES, show
from fedsplit.component import shipped_kinds
from fedsplit.defenses.base import DEFENSES
from fedsplit.errors import PluginError, ScenarioError
from fedsplit.scenario import Scenario

Schemas = dict[str, dict[str, dict[str, Any]]]

MEMBERS = [(family, kind) for family in FAMILIES for kind in shipped_kinds(family)]


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("builtins.print", printed.append)
        show(None, json=True)
    return json.loads(printed[0])


def test_families_are_the_plural_folders_with_a_base() -> None:
    package = Path(catalogue.__file__).parent
    assert set(FAMILIES) == {base.parent.name for base in package.glob("*/base.py")}


def test_every_family_is_a_key_of_a_scenario() -> None:
    keys = set(Scenario.model_fields)
    # A generator is what a member of another family makes images with.
    named = set(FAMILIES) - {"generators"}
    assert {family if family in keys else family.removesuffix("s") for family in named} <= keys


@pytest.mark.parametrize(("family", "kind"), MEMBERS)
def test_every_kind_and_every_setting_is_described(family: str, kind: str, schemas: Schemas) -> None:
    schema = schemas[family][kind]
    assert schema["description"] and schema["additionalProperties"] is False
    for name, setting in schema["properties"].items():
        assert setting.get("description"), f"{name} has no docstring"


def test_an_unknown_family_is_answered_with_all_of_them() -> None:
    with pytest.raises(ScenarioError, match="use one of datasets, models"):
        show("defence", json=False)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a package that offers a defense is installed, but for its module."""
    folder = tmp_path / "muffle-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: muffle\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[fedsplit.defenses]\nmuffle = muffle_of_mine:Muffle\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "muffle_of_mine", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    # The family has looked for installed members before, and must look again before and after.
    monkeypatch.setitem(DEFENSES.__dict__, "entry_points", None)
    monkeypatch.delitem(DEFENSES.__dict__, "entry_points")
    return tmp_path


@pytest.mark.usefixtures("installed")
def test_what_installed_packages_offer_is_listed_without_an_import(capsys: pytest.CaptureFixture[str]) -> None:
    show("defenses", json=False)
    assert "plug-in: muffle_of_mine:Muffle" in capsys.readouterr().out
    assert "muffle_of_mine" not in sys.modules
    show("attacks", json=False)
    assert "muffle" not in capsys.readouterr().out


def test_what_installed_packages_offer_is_among_the_schemas(
    installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = "from fedsplit.defenses.base import Defense\n\n\nclass Muffle(Defense):\n    depth: int\n"
    (installed / "muffle_of_mine.py").write_text(source)
    show("defenses", json=True)
    listed = json.loads(capsys.readouterr().out)["defenses"]
    assert listed.keys() == {*shipped_kinds("defenses"), "muffle"}
    assert listed["muffle"]["properties"]["depth"]["type"] == "integer"


@pytest.mark.usefixtures("installed")
def test_a_schema_that_cannot_be_had_is_one_line() -> None:
    with pytest.raises(PluginError, match="defenses: 'muffle': cannot be imported"):
        show("defenses", json=True)
