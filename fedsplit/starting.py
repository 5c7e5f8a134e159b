"""Starts the engine of a scenario before anything else is known of it, or imported for it."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from fedsplit.component import Trust
from fedsplit.draft import drafted
from fedsplit.engines.base import AnyEngine, Engine
from fedsplit.errors import FedsplitError


def begin(path: Path, assignments: Sequence[str], *, smoke: bool, plugins: bool) -> None:
    """Returns at once. Whatever is wrong is said by whoever reads the whole scenario."""
    engines: TypeAdapter[Engine] = TypeAdapter(AnyEngine)
    with suppress(FedsplitError, ValidationError):
        raw = drafted(path, assignments, smoke=smoke)
        engines.validate_json(json.dumps(raw["engine"]), context=Trust(plugins=plugins)).begin()
