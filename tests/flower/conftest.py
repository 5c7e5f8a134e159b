import resource
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture
def fill_disk() -> Iterator[Callable[[], None]]:
    """Once called, this process can write nothing more into any file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
