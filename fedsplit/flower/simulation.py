"""What parent and child process agree on: how the simulation is laid out, and what the child tells while it runs."""

from typing import Literal

from pydantic import NonNegativeFloat, PositiveInt

from fedsplit.component import Settings
from fedsplit.federation.evaluation import Evaluation


class Simulation(Settings):
    """How many clients there are, and on how much of the machine they run."""

    clients: PositiveInt
    workers: PositiveInt | None
    """Processes side by side on this machine; None where a cluster that is already there decides."""
    cpus_per_client: PositiveInt
    gpus_per_client: NonNegativeFloat


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
