"""What parent and child process agree on: how a simulation is laid out, and what the child tells while it runs."""

from typing import ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveInt

from fedsplit.component import Settings
from fedsplit.federation.evaluation import Evaluation


class Simulation(Settings):
    """How many clients there are, and on how much of the machine they run."""

    runner: ClassVar[str]
    """The module whose `run` the child process runs."""

    clients: PositiveInt
    cpus_per_client: PositiveInt
    gpus_per_client: NonNegativeFloat


class Stock(Simulation):
    """On Flower's own simulation."""

    runner = "fedsplit.flower.stock"

    workers: PositiveInt | None
    """Processes side by side on this machine; None where a cluster that is already there decides."""


class Sticky(Simulation):
    """On the grid of sticky workers."""

    runner = "fedsplit.flower.sticky"

    workers: PositiveInt | None
    """Processes side by side; None where a cluster that is already there decides."""
    address: str | None
    """Of the Ray cluster they run in; None for one of their own, which ends with them."""


class Event(Settings):
    """One line from the child process."""

    kind: Literal["started", "advanced", "finished", "done", "failed", "crashed"]
    """started, advanced, finished: a loop, as `progress` tells it. done: a job is trained. failed: an error that a user
    can mend. crashed: one that nobody expected."""
    text: str = ""
    """started: the loop's description. failed: the error's line. crashed: the traceback."""
    total: int = 0
    """started: the loop's steps."""
    evaluation: Evaluation | None = None
    """done: what the trained model is worth."""
