"""Ray takes seconds to start: tests of one engine follow each other, so that they share its processes."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of other folders keep their places: modules come one after the other, and the sort is stable."""
    places: dict[tuple[Path, str], int] = {}
    items.sort(key=lambda item: places.setdefault((item.path, _engine(item)), len(places)))


def _engine(item: pytest.Item) -> str:
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    return repr(parameters.get("engine", "")) if HERE in item.path.parents else ""
