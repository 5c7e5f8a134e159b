"""Flower's apps and messages on our own grid of Ray actors (Moritz, Nishihara, Wang et al., OSDI 2018): a client always
meets the same process, and crossing the cut costs a message over a socket."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from pydantic import PositiveInt

from fedsplit.engines.base import Engine
from fedsplit.federation.errand import Doer, Errand, Files, Handed
from fedsplit.flower.session import require_flower, session
from fedsplit.flower.simulation import Gpus, Sticky

if TYPE_CHECKING:
    from fedsplit.federation.trained import Trained
    from fedsplit.training import Training


class Ray(Engine):
    """Spreads clients over worker processes and lets each protocol cross the cut at every step. Numbers are those of
    `inline`, whatever the number of workers; a lost worker's round is begun again with the same numbers."""

    grains = frozenset({"round", "step"})

    workers: PositiveInt | None = None
    """Processes side by side, by default as many as the CPUs allow: they host the clients of one training, or do a
    whole training or an attack each."""
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

    @property
    def gpu_share(self) -> float:
        """A worker's."""
        return self.gpus_per_client

    def begin(self) -> None:
        """Ray and its workers start in processes of their own."""
        require_flower(self.kind)
        session(self._simulation)

    def train(self, training: Training) -> Trained:
        """The whole training, in processes that are gone when this one is."""
        from fedsplit.flower.training import train

        require_flower(self.kind)
        return train(self._simulation, training)

    def spread(
        self, errands: Sequence[Errand], here: Doer, say: Callable[[str], None], supplies: Handed
    ) -> Iterator[tuple[str, Files]]:
        """As Ray tasks of one process each. Where those that wait for nothing (the trainings) would keep less than half
        of the workers busy, these are done one by one, each with all workers, and what comes after each as tasks."""
        workers = self._simulation.workers
        if workers == 1 or not errands:
            return super().spread(errands, here, say, supplies)
        require_flower(self.kind)
        # On this machine everybody finds what is here.
        supplies = {} if self.address is None else supplies
        first = [errand for errand in errands if not errand.after]
        if len(first) < 2 or (workers is not None and 2 * len(first) < workers):
            return self._by_turns(errands, here, supplies)
        from fedsplit.flower.training import give

        say(f"{len(first)} cells side by side: {', '.join(errand.name for errand in first)}")
        return give(self._simulation, errands, {}, supplies)

    def _by_turns(self, errands: Sequence[Errand], here: Doer, supplies: Handed) -> Iterator[tuple[str, Files]]:
        from fedsplit.flower.training import give

        given: dict[str, Files] = {}
        starts = [place for place, errand in enumerate(errands) if not errand.after]
        for start, stop in pairwise([*starts, len(errands)]):
            alone, *others = errands[start:stop]
            given[alone.name] = here(alone, {})
            handed = {name: given[name] for errand in others for name in errand.after if name in given}
            for name, files in give(self._simulation, others, handed, supplies):
                given[name] = files
                yield name, files
            del given[alone.name]

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
