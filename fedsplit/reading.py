"""From a scenario file to a scenario: sweeps, validation, and every complaint in one line."""

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from pydantic import ValidationError

from fedsplit import document
from fedsplit.checks import check
from fedsplit.component import Trust
from fedsplit.draft import drafted, eased, filled_in
from fedsplit.errors import ScenarioError
from fedsplit.scenario import UNDEFENDED, Scenario

_MOST_ROWS = 1000
_MOST_ERRORS = 3

_REMEDIES = {
    "extra_forbidden": "remove it or mend its spelling; `fedsplit list FAMILY --json` prints the keys of every kind",
    "missing": "add this key",
    "no_kind": "write it as `{kind: ..., ...}`",
    "union_tag_not_found": "write it as `{kind: ..., ...}`",
    "unknown_kind": "`fedsplit list` prints all kinds",
}


def load(path: Path, *, assignments: Sequence[str] = (), trust: Trust | None = None, smoke: bool = False) -> Scenario:
    """Reads, edits, validates. Raises ScenarioError (or PluginError) in one line, before any compute."""
    trust = trust or Trust()
    scenario = parse(drafted(path, assignments, smoke=False), trust)
    # As it stands first: what makes it small would cover up mistakes.
    return _eased(parse(drafted(path, assignments, smoke=True), trust), trust) if smoke else scenario


def _eased(scenario: Scenario, trust: Trust) -> Scenario:
    try:
        return parse(eased(scenario.dump()), trust)
    except ScenarioError:  # a plug-in that works no less than this
        return scenario


def parse(raw: Mapping[str, document.Plain], trust: Trust) -> Scenario:
    """Plain values -> a scenario that has passed its cross-checks. `raw` is not changed."""
    filled = filled_in(raw)
    filled["defenses"] = _rows(filled["defenses"])
    try:
        scenario = Scenario.model_validate_json(json.dumps(filled), context=trust)
    except ValidationError as error:
        raise _explained(error, filled) from error
    except OSError as error:  # a setting that names a file, of a name that no file can have
        remedy = "name a file that is there"
        raise ScenarioError(f"cannot be looked at ({error.strerror})", value=error.filename, remedy=remedy) from error
    check(scenario)
    return scenario


def _rows(raw: document.Plain) -> document.Plain:
    if not isinstance(raw, dict):
        return raw
    rows: dict[str, document.Plain] = {}
    for name, row in chain.from_iterable(document.swept(row, name) for name, row in raw.items()):
        if name in rows:
            raise ScenarioError("is the name of two rows", at=f"defenses.{name}", remedy="name each row and value once")
        if len(rows) == _MOST_ROWS:
            remedy = f"{_MOST_ROWS} are allowed: sweep fewer values at once"
            raise ScenarioError("makes too many rows", at="defenses", value=name, remedy=remedy)
        rows[name] = row
    return {UNDEFENDED: {"kind": "none"}, **rows}


def _explained(error: ValidationError, raw: document.Plain) -> ScenarioError:
    first, *others = error.errors(include_url=False, include_context=False)
    at = _key_path(first["loc"], raw)
    more = "".join(f"; also {_key_path(other['loc'], raw)}: {other['msg']}" for other in others[:_MOST_ERRORS])
    remedy = _REMEDIES.get(first["type"], "give a value that fits") + more
    if first["type"] == "missing":
        return ScenarioError(first["msg"], at=at, remedy=remedy)
    return ScenarioError(first["msg"], at=at, value=first["input"], remedy=remedy)


def _key_path(location: tuple[int | str, ...], raw: document.Plain) -> str:
    """The place of an error as the file has it, without the names of variants that pydantic puts between."""
    parts: list[str] = []
    holder = raw
    for index, part in enumerate(location):
        if isinstance(holder, dict) and part in holder:
            holder = holder[str(part)]
        elif isinstance(holder, list) and isinstance(part, int) and part < len(holder):
            holder = holder[part]
        elif not isinstance(holder, dict) or index < len(location) - 1:
            continue
        parts.append(str(part))
    return ".".join(parts)
