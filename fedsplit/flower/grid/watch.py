"""Waiting for sockets: awake for a moment, then asleep."""

import os
import select
from math import inf
from time import monotonic

_AWAKE_SECONDS = 0.002
"""A process that sleeps is woken late and finds its caches cold, which takes as long as many a training step; one that
looks for longer than this takes the core from somebody."""


def woken(poll: select.poll, seconds: float) -> list[int]:
    """The sockets that have something to tell, as soon as one has; none where nothing comes in so many seconds."""
    began = monotonic()
    awake_until = began + min(seconds, _AWAKE_SECONDS)
    while not (events := poll.poll(0)):
        now = monotonic()
        if now >= awake_until:
            events = poll.poll(None if seconds == inf else 1000 * max(0.0, began + seconds - now))
            break
        # Whoever could compute on this core does.
        os.sched_yield()
    return [number for number, _ in events]
