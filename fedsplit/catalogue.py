"""What a scenario can name, family by family."""

import ast
import importlib
import importlib.util
import json as json_format
from importlib.metadata import entry_points
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fedsplit.component import Component, Family, shipped_kinds
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
    """Prints kinds with a sentence each, or as JSON with the schema of their settings."""
    if family is not None and family not in FAMILIES:
        raise ScenarioError("is no family", at="family", value=family, remedy=f"use one of {', '.join(FAMILIES)}")
    families = FAMILIES if family is None else (family,)
    if json:
        schemas = {name: {kind: _schema(name, kind) for kind in shipped_kinds(name)} for name in families}
        print(json_format.dumps(schemas, indent=2))
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


def _schema(family: str, kind: str) -> dict[str, object]:
    base = importlib.import_module(f"fedsplit.{family}.base")
    found = next(value for value in vars(base).values() if isinstance(value, Family) and value.name == family)
    member: type[Component] = found.shipped_member(kind)
    return member.model_json_schema(by_alias=True)
