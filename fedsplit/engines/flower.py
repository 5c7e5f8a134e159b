"""Flower's stock simulation: clients are Flower clients, spread by Ray over processes, GPUs and machines
(Beutel, Topal, Mathur et al., arXiv 2007.14390, 2020)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pydantic import PositiveInt

from fedsplit.engines.base import Engine
from fedsplit.flower.session import require_flower
from fedsplit.flower.simulation import Gpus, Stock

if TYPE_CHECKING:
    from fedsplit.federation.trained import Trained
    from fedsplit.training import Training


class Flower(Engine):
    """Trains clients side by side. It computes what `inline` computes; a round waits about a tenth of a second."""

    grains = frozenset({"round"})

    workers: PositiveInt | None = None
    """Processes that train clients; by default as many as the CPUs allow. Flower itself keeps at most four more
    than the machine has CPUs busy. With the environment's RAY_ADDRESS, the cluster's size decides."""
    cpus_per_client: PositiveInt = 1
    """CPUs that Ray sets aside for one client."""
    gpus_per_client: Gpus = 0.0
    """Share of one GPU for one client; 0.25 puts four clients on each GPU. It limits their number, not their memory."""

    @property
    def gpu_share(self) -> float:
        """A client's."""
        return self.gpus_per_client

    def train(self, training: Training) -> Trained:
        """The whole training, in processes that are gone when this one is."""
        from fedsplit.flower.training import train

        require_flower(self.kind)
        clients = len(training.data.holdings)
        workers = self.workers or max(1, len(os.sched_getaffinity(0)) // self.cpus_per_client)
        simulation = Stock(
            clients=clients,
            workers=None if "RAY_ADDRESS" in os.environ else min(workers, clients),
            cpus_per_client=self.cpus_per_client,
            gpus_per_client=self.gpus_per_client,
        )
        return train(simulation, training)
