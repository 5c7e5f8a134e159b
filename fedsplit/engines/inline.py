"""The reference engine: one process, one client after another."""

from collections.abc import Sequence

from fedsplit.engines.base import Engine
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.ledger import Recording
from fedsplit.federation.plan import Plan
from fedsplit.federation.roles import Cohort, FederationData, Task, Update, blamed, prepared_holding
from fedsplit.federation.trained import Standing, Trained
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
        self._protocol = protocol
        self._plan = plan
        self._data = data
        self._recording = recording
        self._start = start
        self._segments = plan.segments()
        self._holdings: dict[int, Holding] = {}

    @property
    def size(self) -> int:
        return len(self._data.holdings)

    def local_rounds(self, tasks: Sequence[Task]) -> tuple[Update, ...]:
        return tuple(self._local_round(task) for task in tasks)

    def _local_round(self, task: Task) -> Update:
        with blamed(task):
            holding = self._holding(task.client)
            return self._protocol.local_round(self._plan, self._segments, task, holding, self._recording)

    def _holding(self, client: int) -> Holding:
        if client not in self._holdings:
            own, public = self._data.holdings[client], self._data.public
            self._holdings[client] = prepared_holding(self._plan, client, own, public, self._start.client)
        return self._holdings[client]
