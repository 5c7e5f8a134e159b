"""Rows of a scenario that are the same defense but for one number."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from fedsplit import document
from fedsplit.document import Plain
from fedsplit.errors import ScenarioError

_Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Sweep:
    """name: what the names of its rows share. setting: the one in which they differ, as the scenario calls it.

    points: (value, name of the row), two or more, by ascending value.
    """

    name: str
    setting: str
    points: tuple[tuple[float, str], ...]


def sweeps(scenario: str) -> tuple[Sweep, ...]:
    """All sweeps among the defenses of a resolved scenario (YAML); none where the text is not one.

    A list of equal numbers counts as that number under the singular of its name: `lambdas: [0.1, 0.1]` is lambda 0.1.
    """
    groups: dict[tuple[_Place, str], dict[float, str]] = {}
    for name, row in _defenses(scenario).items():
        leaves = list(_leaves(row, ()))
        for place, value in leaves:
            if isinstance(value, int | float) and not isinstance(value, bool):
                rest = json.dumps([leaf for leaf in leaves if leaf[0] != place])
                groups.setdefault((place, rest), {}).setdefault(float(value), name)
    return tuple(
        Sweep(_shared(list(rows.values())), _setting(place), tuple(sorted(rows.items())))
        for (place, _), rows in groups.items()
        if len(rows) > 1
    )


def _defenses(scenario: str) -> dict[str, Plain]:
    try:
        parsed = document.parse(scenario, at="scenario")
    except ScenarioError:
        return {}
    rows = parsed.get("defenses") if isinstance(parsed, dict) else None
    return {name: row for name, row in rows.items() if isinstance(row, dict | list)} if isinstance(rows, dict) else {}


def _leaves(value: Plain, place: _Place) -> Iterator[tuple[_Place, Plain]]:
    """(place, value) of all that is neither mapping nor list."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _leaves(part, (*place, key))
    elif isinstance(value, list):
        yield (*place, "length"), str(len(value))
        name = place[-1] if place else 0
        alike = value and all(isinstance(part, int | float) and part == value[0] for part in value)
        if alike and isinstance(name, str):
            yield (*place[:-1], name.removesuffix("s")), value[0]
        else:
            for index, part in enumerate(value):
                yield from _leaves(part, (*place, index))
    else:
        yield place, value


def _setting(place: _Place) -> str:
    return next((part for part in reversed(place) if isinstance(part, str)), "value")


def _shared(names: list[str]) -> str:
    """The words that all names have, in the order of the first; the first name where there are none."""
    others = [set(name.split()) for name in names]
    words = [word for word in names[0].split() if all(word in other for other in others)]
    return " ".join(words) or names[0]
