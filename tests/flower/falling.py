"""A simulation that ends before it has read any order."""

import os

from fedsplit.errors import EngineError
from fedsplit.flower.simulation import Simulation


class Falling(Simulation):
    runner = __name__

    words: str
    """Its last ones; empty for none."""


def run(layout: str, *_: object) -> None:
    """What the child process runs."""
    if words := Falling.model_validate_json(layout).words:
        raise EngineError(words)
    os._exit(3)
