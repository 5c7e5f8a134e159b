from collections.abc import Iterator

import pytest
from hypothesis import settings

# How long an example takes says nothing about what it shows, and on a busy machine nothing at all.
settings.register_profile("fedsplit", deadline=None)
settings.load_profile("fedsplit")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests have remembered is no user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDSPLIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
