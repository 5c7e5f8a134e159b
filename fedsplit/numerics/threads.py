"""How many threads torch computes with: sums are grouped by them, so numbers depend on it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threaded(count: int) -> Iterator[None]:
    """Runs a block with so many."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
