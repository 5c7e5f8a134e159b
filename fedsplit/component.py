"""A component is its settings; a family finds its members. The one place where a word of a scenario becomes code."""

import difflib
import importlib
import importlib.util
import json
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from fedsplit.errors import PluginError

_PLUGIN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class Settings(BaseModel):
    """Frozen, strict, closed: an unknown key, a wrong type or a number that is not finite is refused."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )


class Component(Settings):
    """A member of a family: its fields are its settings in YAML, its methods do the work."""

    @property
    def kind(self) -> str:
        """The word that names this component in a scenario."""
        return kind_of(type(self))

    @property
    def title(self) -> str:
        """What it is called in tables; the kind, where that says all."""
        return self.kind


Member = TypeVar("Member", bound=Component)


def kind_of(member: type[Component]) -> str:
    """A shipped member is named by its file, any other one by `package.module:Class`."""
    package, _, name = member.__module__.rpartition(".")
    shipped = package.startswith("fedsplit.")
    return name if shipped else f"{member.__module__}:{member.__qualname__}"


@dataclass(frozen=True)
class Trust:
    """Whether a scenario may name code that fedsplit does not ship (the context of validation)."""

    plugins: bool = True


class Family(Generic[Member]):
    """All members of one plural folder, plus those that entry points and scenarios name.

    As the metadata of an annotation (`Annotated[Defense, DEFENSES]`) it turns `{kind: ..., ...}` into a member
    and back. A module is imported only when a scenario names it.
    """

    def __init__(self, name: str, base: type[Member], *, sequence: str = "") -> None:
        """`name` is the folder and the entry-point group; `sequence` the kind that a bare YAML list stands for."""
        self.name = name
        self.base = base
        self.sequence = sequence

    @cached_property
    def shipped(self) -> tuple[str, ...]:
        """The kinds in the family's own folder, in alphabetical order."""
        return shipped_kinds(self.name)

    @cached_property
    def entry_points(self) -> Mapping[str, EntryPoint]:
        """The kinds that installed packages offer."""
        return {point.name: point for point in entry_points(group=f"fedsplit.{self.name}")}

    def find(self, kind: str, trust: Trust) -> type[Member]:
        """The class behind `kind`. Raises PydanticCustomError for an unknown kind, PluginError for broken code."""
        if kind in self.shipped:
            return self.shipped_member(kind)
        if kind not in self.entry_points and not _PLUGIN.fullmatch(kind):
            raise self._unknown(kind)
        if not trust.plugins:
            raise PluginError(
                "plug-ins are refused here",
                at=self.name,
                value=kind,
                remedy=f"leave out --no-plugins if you trust this scenario, or use one of {', '.join(self.shipped)}",
            )
        target = self.entry_points[kind].value if kind in self.entry_points else kind
        return self._checked(kind, _import(self.name, kind, target))

    def shipped_member(self, kind: str) -> type[Member]:
        """The one member that the file `kind` of the family's folder defines."""
        name = f"fedsplit.{self.name}.{kind}"
        found = [
            value
            for value in vars(importlib.import_module(name)).values()
            if isinstance(value, type) and issubclass(value, self.base) and value.__module__ == name
        ]
        assert len(found) == 1, f"{name} must define exactly one {self.base.__name__}, it defines {len(found)}"
        return found[0]

    def parse(self, raw: Any, info: ValidationInfo) -> Member:
        """A mapping with a `kind` -> the member with these settings."""
        if isinstance(raw, self.base):
            return raw
        if isinstance(raw, list) and self.sequence:
            raw = {"kind": self.sequence, "members": raw}
        if not isinstance(raw, dict) or not isinstance(raw.get("kind"), str):
            reason = "must be a mapping with a kind, one of {kinds}"
            raise PydanticCustomError("no_kind", reason, {"kinds": ", ".join(self.shipped)})
        trust = info.context if isinstance(info.context, Trust) else Trust()
        settings = {key: value for key, value in raw.items() if key != "kind"}
        return self.find(raw["kind"], trust).model_validate_json(json.dumps(settings), context=info.context)

    def dump(self, member: Member) -> dict[str, Any]:
        """The mapping that `parse` would turn into the same member."""
        return {"kind": member.kind, **member.model_dump(mode="json")}

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        del source, handler
        return core_schema.with_info_plain_validator_function(
            self.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(self.dump),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        del schema, handler
        kinds = {"enum": [*self.shipped, *self.entry_points]}
        plugin = {"type": "string", "pattern": f"^{_PLUGIN.pattern}$"}
        return {"type": "object", "properties": {"kind": {"anyOf": [kinds, plugin]}}, "required": ["kind"]}

    def _checked(self, kind: str, found: object) -> type[Member]:
        base = self.base.__name__
        if not (isinstance(found, type) and issubclass(found, self.base) and found is not self.base):
            remedy = f"name a class that derives from {self.base.__module__}:{base}"
            raise PluginError(f"is not a {base}", at=self.name, value=kind, remedy=remedy)
        if missing := sorted(found.__abstractmethods__):
            remedy = f"write what a {base} has to have"
            raise PluginError(f"leaves {', '.join(missing)} undefined", at=self.name, value=kind, remedy=remedy)
        return found

    def _unknown(self, kind: str) -> PydanticCustomError:
        known = [*self.shipped, *self.entry_points]
        near = difflib.get_close_matches(kind, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(known)}, or package.module:Class"
        reason = "no {base} of this kind; {hint}"
        return PydanticCustomError("unknown_kind", reason, {"base": self.base.__name__.lower(), "hint": hint})


def shipped_kinds(family: str) -> tuple[str, ...]:
    """The file names in a family's folder, found without importing one of them. What several members share stands
    beside them in `base`, or `<what>_base`."""
    spec = importlib.util.find_spec(f"fedsplit.{family}")
    assert spec is not None and spec.submodule_search_locations is not None, f"fedsplit.{family} is not a folder"
    names = (module.name for module in pkgutil.iter_modules(list(spec.submodule_search_locations)))
    return tuple(sorted(name for name in names if not name.endswith("base")))


def _import(family: str, kind: str, target: str) -> object:
    module_name, _, class_name = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a stranger's module may fail in any way, and each is the user's to read in one line
        raise PluginError(
            f"cannot be imported ({type(error).__name__}: {error})",
            at=family,
            value=kind,
            remedy="check the spelling, and that the module is installed or lies in the folder you started from",
        ) from error
    if not hasattr(module, class_name):
        raise PluginError(f"{module_name} has no {class_name}", at=family, value=kind, remedy="check the spelling")
    return getattr(module, class_name)
