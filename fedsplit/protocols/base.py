"""The contract of a protocol: the order of exchanges, and the loop over rounds that all of them share."""

import time
from abc import abstractmethod
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import PositiveInt

from fedsplit.component import Component, Family
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.evaluation import evaluate
from fedsplit.federation.ledger import Ledger, Page, Recording
from fedsplit.federation.plan import Plan, State
from fedsplit.federation.roles import Cohort, Task, Update
from fedsplit.federation.trained import Standing, Trained
from fedsplit.progress import track
from fedsplit.records.images import Holding, Images
from fedsplit.split import Segments


class Protocol(Component):
    """Who trains with whom, in which order."""

    grain: ClassVar[Literal["round", "step"]]
    """round: a whole local round may run where the client is. step: every step crosses the cut."""

    rounds: PositiveInt = 5
    """Global rounds, each ending with averaged segments."""
    batch_size: PositiveInt = 64
    """Images per step."""

    @abstractmethod
    def round(self, plan: Plan, cohort: Cohort, standing: Standing) -> tuple[Standing, tuple[Update, ...]]:
        """One global round; the updates are what the ledger may keep."""

    @abstractmethod
    def local_round(self, plan: Plan, segments: Segments, task: Task, holding: Holding, recording: Recording) -> Update:
        """What a round-grain protocol runs at one client. `segments` are overwritten."""

    @abstractmethod
    def steps(self, examples: tuple[int, ...]) -> int:
        """How many exchanges a whole training takes with clients of these sizes."""

    def train(
        self, plan: Plan, cohort: Cohort, start: Standing, recording: Recording, test: Images, checkpoint: Checkpoint
    ) -> Trained:
        """All rounds, from the last checkpoint on; each round is on disk before the next one begins."""
        found = checkpoint.load()
        standing, ledger = found if found is not None else (start, Ledger(()))
        remaining = range(standing.round + 1, self.rounds + 1)
        for number in track(remaining, "training", len(remaining)):
            before, began = standing, time.perf_counter()
            after, updates = self.round(plan, cohort, before)
            standing = replace(after, seconds=before.seconds + time.perf_counter() - began)
            page = _page(number, before.client, standing, updates) if recording.keeps(number) else None
            if page is not None:
                ledger = Ledger((*ledger.pages, page))
            checkpoint.save(standing, page)
        return Trained(standing, ledger, evaluate(plan, standing.client, standing.server, test))


def _page(number: int, broadcast: State, standing: Standing, updates: tuple[Update, ...]) -> Page:
    return Page(
        number,
        broadcast,
        standing.client,
        standing.server,
        tuple((update.client, update.client_state) for update in updates),
        tuple(exchange for update in updates for exchange in update.exchanges),
    )


PROTOCOLS: Family[Protocol] = Family("protocols", Protocol)
AnyProtocol = Annotated[Protocol, PROTOCOLS]
