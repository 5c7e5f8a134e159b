"""What parent and child process agree on: how a simulation is laid out, and what the child tells while it runs."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, NonNegativeFloat, PositiveInt

from fedsplit.component import Settings


def _share_or_whole(gpus: float) -> float:
    if gpus > 1 and gpus != int(gpus):
        raise ValueError(f"Ray gives a share of one GPU, or whole ones: use {int(gpus)} or {int(gpus) + 1}")
    return gpus


Gpus = Annotated[NonNegativeFloat, AfterValidator(_share_or_whole)]
"""What Ray sets aside: a share of one GPU, or whole ones."""


class Simulation(Settings):
    """On how much of the machine clients run."""

    runner: ClassVar[str]
    """The module whose `run` the child process runs."""

    cpus_per_client: PositiveInt
    gpus_per_client: Gpus


class Stock(Simulation):
    """On Flower's own simulation."""

    runner = "fedsplit.flower.stock"

    clients: PositiveInt
    workers: PositiveInt | None
    """Processes side by side on this machine; None where a cluster that is already there decides."""


class Sticky(Simulation):
    """On the grid of sticky workers."""

    runner = "fedsplit.flower.cluster"

    workers: PositiveInt | None
    """Processes side by side: they host clients, or do errands; None where a cluster that is already there decides."""
    gpus_for_server: Gpus
    """Of the machine of the child process, which holds the server segment."""
    address: str | None
    """Of the Ray cluster they run in; None for one of their own, which ends with them."""


class Progress(Settings):
    """One step of a loop somewhere, as `progress` tells it."""

    kind: Literal["started", "advanced", "finished"]
    loop: str
    """Which loop: unique among those of one child process."""
    text: str = ""
    """started: the loop's description."""
    total: int = 0
    """started: the loop's steps."""


class Event(Settings):
    """One line from the child process."""

    kind: Literal["progress", "given", "done", "failed", "crashed"]
    """progress: of a loop. given: an errand is done. done: the whole order is. failed: an error that a user can mend.
    crashed: one that nobody expected."""
    progress: Progress | None = None
    text: str = ""
    """given: the errand's name; what it gave lies in the folder of this name. failed: the error's line. crashed: the
    traceback. done: what the trained model is worth, as JSON, where the order was a training."""
