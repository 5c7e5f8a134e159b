import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def without_umap() -> Iterator[None]:
    """The same pictures in the same time, whatever is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "umap", None)
        yield
