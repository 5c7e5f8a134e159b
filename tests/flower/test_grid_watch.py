"""Who waits for sockets hears of the first that has something, and of nothing when nothing comes."""

import select
import threading
import time
from math import inf
from socket import socketpair

import pytest

from fedsplit.flower.grid.watch import woken


@pytest.mark.parametrize("after", [0.0, 0.02], ids=["awake", "asleep"])
@pytest.mark.parametrize("seconds", [10.0, inf])
def test_the_socket_that_got_something_is_told(after: float, seconds: float) -> None:
    poll, pairs = select.poll(), [socketpair() for _ in range(3)]
    for near, _ in pairs:
        poll.register(near, select.POLLIN)
    threading.Timer(after, pairs[1][1].send, [b"x"]).start()
    assert woken(poll, seconds) == [pairs[1][0].fileno()]
    for end in sum(pairs, ()):
        end.close()


def test_nothing_is_waited_for_no_longer_than_said() -> None:
    near, far = socketpair()
    poll = select.poll()
    poll.register(near, select.POLLIN)
    for seconds in (0.0, 0.001, 0.03):
        began = time.monotonic()
        assert woken(poll, seconds) == []
        # Poll counts whole milliseconds.
        assert time.monotonic() - began >= seconds - 0.001
    near.close()
    far.close()
