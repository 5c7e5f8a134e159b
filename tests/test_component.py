import subprocess
import sys
import textwrap
from abc import abstractmethod
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from fedsplit.component import Family, Settings, Trust, shipped_kinds
from fedsplit.defenses.base import DEFENSES, AnyDefense, Defense
from fedsplit.defenses.composition import Composition
from fedsplit.defenses.gaussian_noise import GaussianNoise
from fedsplit.defenses.none import Undefended
from fedsplit.errors import PluginError

defenses: TypeAdapter[Defense] = TypeAdapter(AnyDefense)

PLUGIN = """
from abc import abstractmethod
from pydantic import Field
from fedsplit.defenses.base import Defense

class Muffle(Defense):
    lambda_: float = Field(default=1.0, alias="lambda")

class Unfinished(Defense):
    @abstractmethod
    def more(self): ...

class Stranger: ...

something = 3
"""


class Aliased(Defense):
    lambda_: Annotated[float, Field(gt=0)] = Field(default=1.0, alias="lambda")


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that can be imported while the test runs."""
    (tmp_path / "muffle_plugin.py").write_text(textwrap.dedent(PLUGIN))
    (tmp_path / "broken_plugin.py").write_text("raise RuntimeError('fell\\nover')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return "muffle_plugin:Muffle"


def refusal(raw: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        defenses.validate_python(raw)
    return str(caught.value)


def test_a_kind_is_a_file_name() -> None:
    assert {"none", "gaussian_noise", "composition"} <= set(shipped_kinds("defenses"))
    assert {"base", "poison_base"}.isdisjoint(shipped_kinds("defenses"))
    assert shipped_kinds("defenses") == tuple(sorted(shipped_kinds("defenses")))
    found = defenses.validate_python({"kind": "gaussian_noise", "std": 0.5})
    assert found == GaussianNoise(std=0.5)
    assert found.kind == "gaussian_noise"


def test_kinds_are_listed_without_importing_them() -> None:
    # In this process all are imported already, so another one is asked.
    code = "import sys; from fedsplit.component import shipped_kinds; shipped_kinds('models'); print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "fedsplit.component" in found.split()
    assert "torch" not in found.split()


@pytest.mark.parametrize("kind", DEFENSES.shipped)
def test_every_shipped_member_is_found_under_its_own_name(kind: str) -> None:
    member = DEFENSES.shipped_member(kind)
    assert issubclass(member, Defense)
    assert member.__module__ == f"fedsplit.defenses.{kind}"


def test_an_unknown_kind_is_answered_with_the_nearest_one() -> None:
    assert "did you mean 'gaussian_noise'?" in refusal({"kind": "gausian_noise", "std": 1.0})
    text = refusal({"kind": "zzz"})
    assert "use one of" in text
    assert "laplace_noise" in text
    assert "package.module:Class" in text


@pytest.mark.parametrize("kind", ["base", "", "a b", "a:b:c", "../x", ":X", "x:", "1x:Y", "os.system"])
def test_what_is_no_kind_is_refused_without_an_import(kind: str) -> None:
    assert "no defense of this kind" in refusal({"kind": kind})


@pytest.mark.parametrize("raw", [None, 3, "gaussian_noise", {}, {"std": 1.0}, {"kind": 3}, {"kind": None}])
def test_what_is_no_mapping_with_a_kind_is_refused(raw: object) -> None:
    assert "must be a mapping with a kind" in refusal(raw)


@pytest.mark.parametrize(
    ("settings", "fragment"),
    [
        ({}, "std"),
        ({"std": -1.0}, "greater than 0"),
        ({"std": 0}, "greater than 0"),
        ({"std": "1"}, "valid number"),
        ({"std": True}, "valid number"),
        ({"std": 1.0, "sdt": 1.0}, "sdt"),
        ({"std": float("inf")}, "finite"),
        ({"std": float("nan")}, "std"),
        ({"std": 1.0, "relative": 1}, "valid boolean"),
        ({"std": 1.0, "active": "never"}, "'both'"),
    ],
)
def test_settings_are_closed_and_strict(settings: dict[str, Any], fragment: str) -> None:
    assert fragment in refusal({"kind": "gaussian_noise", **settings})


def test_a_whole_number_is_a_number() -> None:
    assert defenses.validate_python({"kind": "gaussian_noise", "std": 1}) == GaussianNoise(std=1.0)


def test_a_component_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        GaussianNoise(std=1.0).std = 2.0


def test_equal_settings_are_equal_and_hash_alike() -> None:
    assert len({GaussianNoise(std=1.0), GaussianNoise(std=1.0), GaussianNoise(std=2.0)}) == 2


def test_a_list_is_a_composition_also_inside_a_list() -> None:
    found = defenses.validate_python([{"kind": "none"}, [{"kind": "gaussian_noise", "std": 1.0}]])
    inner = Composition(members=(GaussianNoise(std=1.0),))
    assert found == Composition(members=(Undefended(), inner))
    assert defenses.validate_json(defenses.dump_json(found)) == found


def test_an_error_inside_is_placed_by_its_path() -> None:
    class Holder(Settings):
        defense: AnyDefense

    with pytest.raises(ValidationError) as caught:
        Holder.model_validate_json('{"defense": [{"kind": "none"}, {"kind": "gaussian_noise", "std": -1}]}')
    (error,) = caught.value.errors()
    assert error["loc"] == ("defense", "members", 1, "std")
    assert error["input"] == -1


def test_a_plugin_is_found_by_module_and_class(plugin: str) -> None:
    found = defenses.validate_python({"kind": plugin, "lambda": 2.0})
    assert found.kind == plugin
    assert dict(found)["lambda_"] == 2.0


def test_settings_go_round_by_alias_also_those_of_plugins(plugin: str) -> None:
    found = defenses.validate_python({"kind": plugin, "lambda": 2.0})
    raw = defenses.dump_python(found, mode="json")
    assert raw == {"kind": plugin, "active": "both", "lambda": 2.0}
    assert defenses.validate_python(raw) == found
    assert defenses.validate_json(defenses.dump_json(found)) == found


def test_a_member_may_be_handed_over_as_an_object() -> None:
    found = Aliased(lambda_=2.0)
    assert defenses.validate_python(found) is found
    assert defenses.validate_python({"kind": "tests.test_component:Aliased", "lambda": 2.0}) == found


@pytest.mark.parametrize(
    ("kind", "fragment"),
    [
        ("muffle_plugin:Stranger", "is not a Defense"),
        ("muffle_plugin:something", "is not a Defense"),
        ("muffle_plugin:Defense", "is not a Defense"),
        ("muffle_plugin:Unfinished", "leaves more undefined"),
        ("muffle_plugin:Missing", "has no Missing"),
        ("no_such_module_anywhere:X", "ModuleNotFoundError"),
        ("broken_plugin:X", "RuntimeError: fell over"),
        ("fedsplit.models.linear:Linear", "is not a Defense"),
    ],
)
def test_broken_plugins_are_refused_in_one_line(plugin: str, kind: str, fragment: str) -> None:
    with pytest.raises(PluginError) as caught:
        defenses.validate_python({"kind": kind})
    assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("nested", [False, True])
def test_without_trust_no_plugin_is_even_imported(plugin: str, nested: bool) -> None:
    raw: Any = {"kind": "broken_plugin:X"}
    with pytest.raises(PluginError, match="plug-ins are refused here"):
        defenses.validate_python([raw] if nested else raw, context=Trust(plugins=False))
    assert "broken_plugin" not in sys.modules


def test_without_trust_shipped_members_are_still_there() -> None:
    found = defenses.validate_python({"kind": "gaussian_noise", "std": 1.0}, context=Trust(plugins=False))
    assert found == GaussianNoise(std=1.0)


@pytest.fixture
def installed(tmp_path: Path, plugin: str) -> TypeAdapter[Defense]:
    """A family that looks for members after a package with entry points was installed."""
    folder = tmp_path / "muffle-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: muffle\nVersion: 1.0\n")
    points = (
        f"[fedsplit.defenses]\nmuffle = {plugin}\nnone = {plugin}\nbroken = broken_plugin:X\n[other]\nstranger = a:b\n"
    )
    (folder / "entry_points.txt").write_text(points)
    sys.path_importer_cache.clear()
    return TypeAdapter(Annotated[Defense, Family("defenses", Defense, sequence="composition")])


def test_an_installed_package_offers_members(installed: TypeAdapter[Defense], plugin: str) -> None:
    found = installed.validate_python({"kind": "muffle", "lambda": 3.0})
    assert found.kind == plugin
    assert installed.validate_json(installed.dump_json(found)) == found


def test_an_installed_package_cannot_take_the_name_of_a_shipped_member(installed: TypeAdapter[Defense]) -> None:
    assert installed.validate_python({"kind": "none"}) == Undefended()


def test_an_installed_package_needs_trust_and_may_be_broken(installed: TypeAdapter[Defense]) -> None:
    with pytest.raises(PluginError, match="refused here"):
        installed.validate_python({"kind": "muffle"}, context=Trust(plugins=False))
    with pytest.raises(PluginError, match="fell over"):
        installed.validate_python({"kind": "broken"})
    with pytest.raises(ValidationError, match="did you mean 'muffle'"):
        installed.validate_python({"kind": "mufle"})
    with pytest.raises(ValidationError, match="no defense of this kind"):
        installed.validate_python({"kind": "stranger"})


def test_the_json_schema_names_every_kind(installed: TypeAdapter[Defense]) -> None:
    kinds, plugins = installed.json_schema()["properties"]["kind"]["anyOf"]
    assert {"none", "gaussian_noise", "muffle"} <= set(kinds["enum"])
    assert plugins["pattern"].startswith("^")


def test_field_docstrings_become_descriptions() -> None:
    assert "standard deviation" in GaussianNoise.model_json_schema()["properties"]["std"]["description"]


class Shape(Settings):
    sides: tuple[int, ...] = ()


def test_lists_become_tuples_in_json_alone() -> None:
    assert Shape.model_validate_json('{"sides": [1, 2]}') == Shape(sides=(1, 2))
    with pytest.raises(ValidationError):
        Shape.model_validate({"sides": [1, 2]})


class Base(Defense):
    @abstractmethod
    def more(self) -> None: ...


def test_an_abstract_member_of_this_process_is_refused_too() -> None:
    with pytest.raises(PluginError, match="leaves more undefined"):
        defenses.validate_python({"kind": "tests.test_component:Base"})
