"""How many workers there are, and what each may use."""

from pydantic import NonNegativeFloat, PositiveInt

from fedsplit.component import Settings


class Layout(Settings):
    """The workers of a grid, all alike. Cluster-wide totals are the product with `workers`."""

    workers: PositiveInt
    """Processes that host the clients; never more than there are clients."""
    cpus_per_worker: NonNegativeFloat = 1.0
    """What Ray reserves, in cores."""
    gpus_per_worker: NonNegativeFloat = 0.0
    """What Ray reserves, in devices; a fraction shares one and limits no memory."""
    gpus_for_server: NonNegativeFloat = 0.0
    """What the driver has reserved on its own machine, in devices: no worker has room there."""
    in_flight: PositiveInt = 2
    """Parcels that a worker may have before it at once. Whoever sends more waits."""
