"""Flower's apps and messages on our own grid of Ray actors (Moritz, Nishihara, Wang et al., OSDI 2018): a client always
meets the same process, and an exchange costs about a millisecond."""

import os
from collections.abc import Callable, Iterator, Sequence

from pydantic import PositiveInt

from fedsplit.engines.base import Engine
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.errand import Errand, Files
from fedsplit.federation.ledger import Recording
from fedsplit.federation.plan import Plan
from fedsplit.federation.roles import FederationData
from fedsplit.federation.trained import Standing, Trained
from fedsplit.flower.session import session
from fedsplit.flower.simulation import Gpus, Sticky
from fedsplit.flower.training import give, require_flower, train
from fedsplit.protocols.base import Protocol


class Ray(Engine):
    """Spreads clients over worker processes and lets each protocol cross the cut at every step. Numbers are those of
    `inline`, whatever the number of workers; a lost worker's round is begun again with the same numbers."""

    grains = frozenset({"round", "step"})

    workers: PositiveInt | None = None
    """Processes side by side, by default as many as the CPUs allow: they host the clients of one training, or run a
    whole cell each."""
    cpus_per_client: PositiveInt = 1
    """CPUs that Ray sets aside for each worker, which serves one client at a time."""
    gpus_per_client: Gpus = 0.0
    """Share of one GPU for each worker; 0.25 puts four on each. It limits their number, not their memory."""
    gpus_for_server: Gpus = 0.0
    """Share of one GPU that Ray keeps free of workers for the server segment, on the machine of the command; the server
    then uses this one alone. With 0 it uses the machine's first GPU beside whatever Ray places there."""
    address: str | None = None
    """A running Ray cluster to join: `auto` for the one this machine belongs to, or host:port of its head. By default
    one of its own, on this machine."""

    def begin(self) -> None:
        """Ray and its workers start in processes of their own."""
        require_flower(self.kind)
        session(self._simulation)

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
        return train(self._simulation, protocol, plan, start, data, recording, checkpoint)

    def spread(
        self, errands: Sequence[Errand], here: Callable[[Errand], Files], say: Callable[[str], None]
    ) -> Iterator[tuple[str, Files]]:
        """As Ray tasks of one process each, where they keep at least half of the workers busy; else one by one, each
        with all workers."""
        workers = self._simulation.workers
        if len(errands) < 2 or workers == 1 or (workers is not None and 2 * len(errands) < workers):
            return super().spread(errands, here, say)
        require_flower(self.kind)
        say(f"{len(errands)} cells side by side: {', '.join(errand.name for errand in errands)}")
        return give(self._simulation, errands)

    @property
    def _simulation(self) -> Sticky:
        workers = self.workers
        if workers is None and self.address is None:
            workers = max(1, len(os.sched_getaffinity(0)) // self.cpus_per_client)
        return Sticky(
            workers=workers,
            cpus_per_client=self.cpus_per_client,
            gpus_per_client=self.gpus_per_client,
            gpus_for_server=self.gpus_for_server,
            address=self.address,
        )
