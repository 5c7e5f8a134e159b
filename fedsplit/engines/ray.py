"""Flower's apps and messages on our own grid of Ray actors (Moritz, Nishihara, Wang et al., OSDI 2018): a client always
meets the same process, and an exchange costs about a millisecond."""

import os

from pydantic import NonNegativeFloat, PositiveInt

from fedsplit.engines.base import Engine
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.ledger import Recording
from fedsplit.federation.plan import Plan
from fedsplit.federation.roles import FederationData
from fedsplit.federation.trained import Standing, Trained
from fedsplit.flower.simulation import Sticky
from fedsplit.flower.training import require_flower, train
from fedsplit.protocols.base import Protocol


class Ray(Engine):
    """Spreads clients over worker processes and lets each protocol cross the cut at every step. Numbers are those of
    `inline`, whatever the number of workers; a lost worker's round is begun again with the same numbers."""

    grains = frozenset({"round", "step"})

    workers: PositiveInt | None = None
    """Processes that host the clients; by default as many as the CPUs allow, at most one per client."""
    cpus_per_client: PositiveInt = 1
    """CPUs that Ray sets aside for each worker, which serves one client at a time."""
    gpus_per_client: NonNegativeFloat = 0.0
    """Share of one GPU for each worker; 0.25 puts four on each. It limits their number, not their memory."""
    address: str | None = None
    """A running Ray cluster to join: `auto` for the one this machine belongs to, or host:port of its head. By default
    one of its own, on this machine."""

    def train(
        self,
        protocol: Protocol,
        plan: Plan,
        start: Standing,
        data: FederationData,
        recording: Recording,
        checkpoint: Checkpoint,
    ) -> Trained:
        """The whole training, in processes that are gone when this one is."""
        require_flower(self.kind)
        return train(self._simulation(len(data.holdings)), protocol, plan, start, data, recording, checkpoint)

    def _simulation(self, clients: int) -> Sticky:
        workers = self.workers
        if workers is None and self.address is None:
            workers = max(1, len(os.sched_getaffinity(0)) // self.cpus_per_client)
        return Sticky(
            clients=clients,
            workers=None if workers is None else min(workers, clients),
            cpus_per_client=self.cpus_per_client,
            gpus_per_client=self.gpus_per_client,
            address=self.address,
        )
