import shutil

import pytest

from fedsplit.errors import EngineError
from fedsplit.flower.order import Order
from fedsplit.flower.session import Session
from tests.flower.falling import Falling


def fallen(words: str) -> Session:
    """One whose child is gone, with these last words."""
    session = Session(Falling(cpus_per_client=1, gpus_per_client=0.0, words=words))
    session._process.wait()
    return session


def test_what_a_child_said_before_it_ended_is_told_and_nothing_is_left() -> None:
    session = fallen("no machine has room")
    with pytest.raises(EngineError, match=r"^no machine has room$"):
        list(session.follow(Order()))
    session.close()
    assert not session.folder.exists()


def test_a_child_that_said_nothing_is_told_of_even_where_its_log_is_gone() -> None:
    session = fallen("")
    shutil.rmtree(session.folder)
    with pytest.raises(EngineError, match=r"^engine: the simulation ended without a word \(exit code 3\)$"):
        list(session.follow(Order()))
    session.close()
