"""The reference engine: one process, one client after another."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from fedsplit.engines.base import Engine
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.cohort import Cohort, Task, Update
from fedsplit.federation.ledger import Recording
from fedsplit.federation.messages import Down, Failed, Opening, Up
from fedsplit.federation.plan import Plan
from fedsplit.federation.roles import FederationData, prepared_holding
from fedsplit.federation.trained import Standing, Trained
from fedsplit.hosting import Host
from fedsplit.protocols.base import Protocol
from fedsplit.records.images import Holding


class Inline(Engine):
    """Plain loops. What it computes is what every other engine has to compute."""

    grains = frozenset({"round", "step"})

    def train(
        self,
        protocol: Protocol,
        plan: Plan,
        start: Standing,
        data: FederationData,
        recording: Recording,
        checkpoint: Checkpoint,
    ) -> Trained:
        """The whole training, in this process."""
        with plan.threaded():
            cohort = _InlineCohort(protocol, plan, data, recording, start)
            return protocol.train(plan, cohort, start, recording, data.test, checkpoint)


class _InlineCohort(Cohort):
    def __init__(
        self, protocol: Protocol, plan: Plan, data: FederationData, recording: Recording, start: Standing
    ) -> None:
        self._plan = plan
        self._data = data
        self._start = start
        self._host = Host(protocol, plan, recording, lru_cache(maxsize=None)(self._prepared))
        self._answers: dict[int, Down] = {}

    @property
    def size(self) -> int:
        return len(self._data.holdings)

    def local_rounds(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Update | Failed]]:
        return ((task.opening.client, self._host.local_round(task)) for task in tasks)

    def open(self, openings: Sequence[Opening]) -> None:
        self._answers.clear()
        for opening in openings:
            self._host.open(opening)

    def post(self, answers: Mapping[int, Down]) -> None:
        self._answers.update(answers)

    def take(self, client: int) -> Up:
        return self._host.say(client, self._answers.pop(client, None))

    def _prepared(self, client: int) -> Holding:
        own, public = self._data.holdings[client], self._data.public
        return prepared_holding(self._plan, client, own, public, self._start.client)
