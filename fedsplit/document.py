"""A scenario file as plain data: safe YAML, `--set`, and sweeps; nothing is known here of what the keys mean."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from itertools import count, product
from pathlib import Path
from typing import Any

import yaml

from fedsplit.errors import ScenarioError

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]
"""What JSON can say."""

_MOST_NODES = 20_000
_DEEPEST = 50
_NUMBER = re.compile(r"[-+]?(\d[\d_]*(\.[\d_]*)?|\.\d[\d_]*)([eE][-+]?\d+)?")


class _Loader(yaml.SafeLoader):
    """Safe YAML without dates (a scenario has none), with `1e-3` as a number and without repeated keys."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (as PyYAML declares it)
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":float"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for node_of_key, _ in node.value:
            key = self.construct_object(node_of_key, deep=True)  # pyright: ignore
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} must be text", node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(rf"^(?:{_NUMBER.pattern})$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"),
    list("-+.0123456789"),
)


def read(path: Path) -> dict[str, Plain]:
    """The mapping in a YAML file. ScenarioError where there is no file, or no mapping of plain values in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = f"cannot be read ({getattr(error, 'strerror', None) or error})"
        raise ScenarioError(
            reason, at=str(path), remedy="name a scenario file, such as scenarios/digits.yaml"
        ) from error
    document = parse(text, at=str(path))
    if not isinstance(document, dict):
        raise ScenarioError("is not a mapping of keys", at=str(path), remedy="see the scenarios that are shipped")
    return document


def parse(text: str, *, at: str) -> Plain:
    """YAML text as plain values. ScenarioError where it is not YAML, too large, or says what JSON cannot."""
    try:
        plain = _plain(yaml.load(text, _Loader), at=at)
        json.dumps(plain, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except yaml.YAMLError as error:
        raise ScenarioError(f"is not valid YAML ({error})", at=at, remedy="mend the line it names") from error
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        # An explicit tag (`!!int x`) makes PyYAML fail in any of these ways.
        raise ScenarioError(f"holds a value that cannot be read ({error})", at=at, remedy="write it plainly") from error
    return plain


def assign(document: dict[str, Plain], assignment: str) -> None:
    """Applies one `a.b=value`, in place; numbers index lists, and keys that hold dots are found whole."""
    path, separator, text = assignment.partition("=")
    if not separator or not path.strip():
        raise ScenarioError("is not key=value", at="--set", value=assignment, remedy="write --set protocol.rounds=3")
    value = parse(text, at=f"--set {path}")
    holder: Plain = document
    parts = path.strip().split(".")
    while parts:
        key, parts = _next_key(holder, parts)
        if isinstance(holder, list):
            holder = _assign_item(holder, key, None if parts else (value,), path)
        elif isinstance(holder, dict):
            if not parts:
                holder[key] = value
                return
            if not isinstance(holder.get(key), dict | list):
                holder[key] = {}
            holder = holder[key]
        else:
            raise ScenarioError("is not a mapping or a list", at=f"--set {path}", value=holder, remedy="check the path")


def swept(row: Plain, name: str) -> Iterator[tuple[str, Plain]]:
    """A row with `{sweep: [...]}` somewhere inside -> one row per value (per combination), each with its own name."""
    places = list(_sweeps(row, ()))
    for values in product(*(found for _, found in places)):
        changed = json.loads(json.dumps(row))
        parts = [name]
        for (place, _), value in zip(places, values, strict=True):
            changed = _replaced(changed, place, value)
            parts.append(f"{place[-1] if place else 'value'}={value}")
        yield " ".join(parts), changed


def dump(document: Mapping[str, Any]) -> str:
    """Plain values as YAML, keys in their own order."""
    return yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, width=120)


def _plain(value: object, *, at: str) -> Plain:
    # Aliases may repeat or contain themselves: what is unfolded here is bounded, so that no file can fill the memory.
    seen = count(1)

    def visit(item: object, *place: str | int) -> Plain:
        if next(seen) > _MOST_NODES or len(place) > _DEEPEST:
            raise ScenarioError("is too large or too deep for a scenario", at=at, remedy="write it without aliases")
        if item is None or isinstance(item, bool | str | int) or (isinstance(item, float) and math.isfinite(item)):
            return item
        if isinstance(item, list):
            return [visit(part, *place, index) for index, part in enumerate(item)]
        if isinstance(item, dict):
            return {str(key): visit(part, *place, str(key)) for key, part in item.items()}
        reason = "must be a finite number" if isinstance(item, float) else f"is a {type(item).__name__}"
        where = f"{at}: {'.'.join(map(str, place))}" if place else at
        raise ScenarioError(reason, at=where, value=item, remedy="use text, finite numbers, lists, mappings")

    return visit(value)


def _next_key(holder: Plain, parts: list[str]) -> tuple[str, list[str]]:
    if isinstance(holder, dict):
        for length in range(len(parts), 0, -1):
            key = ".".join(parts[:length])
            if key in holder:
                return key, parts[length:]
    return parts[0], parts[1:]


def _assign_item(holder: list[Plain], key: str, value: tuple[Plain] | None, path: str) -> Plain:
    if not key.isdecimal() or int(key) >= len(holder):
        remedy = f"use a number from 0 to {len(holder) - 1}" if holder else "the list is empty: give it whole"
        raise ScenarioError("is no item of the list", at=f"--set {path}", value=key, remedy=remedy)
    if value is not None:
        holder[int(key)] = value[0]
    return holder[int(key)]


def _sweeps(value: Plain, place: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], list[Plain]]]:
    if isinstance(value, dict):
        if list(value) == ["sweep"] and isinstance(value["sweep"], list) and value["sweep"]:
            yield place, value["sweep"]
        else:
            for key, part in value.items():
                yield from _sweeps(part, (*place, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _sweeps(part, (*place, index))


def _replaced(value: Any, place: tuple[str | int, ...], new: Plain) -> Any:
    if not place:
        return new
    value[place[0]] = _replaced(value[place[0]], place[1:], new)
    return value
