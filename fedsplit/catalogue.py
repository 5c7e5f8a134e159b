"""What a scenario can name, family by family."""

import ast
import importlib
import importlib.util
import json as json_format
from importlib.metadata import entry_points
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fedsplit.component import Component, Family, Trust, shipped_kinds
from fedsplit.errors import ScenarioError

FAMILIES = (
    "datasets",
    "models",
    "protocols",
    "engines",
    "defenses",
    "threats",
    "attacks",
    "generators",
    "metrics",
    "bounds",
)


def show(family: str | None, *, json: bool) -> None:
    """Prints kinds with a sentence each, or as JSON with the schema of their settings, for which plug-ins are imported.

    Raises PluginError where one of them cannot be.
    """
    if family is not None and family not in FAMILIES:
        raise ScenarioError("is no family", at="family", value=family, remedy=f"use one of {', '.join(FAMILIES)}")
    families = FAMILIES if family is None else (family,)
    if json:
        print(json_format.dumps({name: _schemas(name) for name in families}, indent=2))
        return
    table = Table("family", "kind", "what it is", box=None, pad_edge=False, header_style="bold")
    for name in families:
        for kind in shipped_kinds(name):
            table.add_row(name, kind, _sentence(name, kind))
        for point in sorted(entry_points(group=f"fedsplit.{name}"), key=lambda point: point.name):
            table.add_row(name, point.name, f"plug-in: {point.value}")
    Console(highlight=False).print(table)


def _sentence(family: str, kind: str) -> str:
    # The first line of the file, read as text: nothing has to be imported for it.
    spec = importlib.util.find_spec(f"fedsplit.{family}.{kind}")
    assert spec is not None and spec.origin is not None, f"fedsplit.{family}.{kind} has no file"
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split())


def _schemas(family: str) -> dict[str, object]:
    base = importlib.import_module(f"fedsplit.{family}.base")
    found = next(value for value in vars(base).values() if isinstance(value, Family) and value.name == family)
    kinds = (*found.shipped, *sorted(found.entry_points))
    members: dict[str, type[Component]] = {kind: found.find(kind, Trust()) for kind in kinds}
    return {kind: member.model_json_schema(by_alias=True) for kind, member in members.items()}
