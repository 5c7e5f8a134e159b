"""The reference engine: one process, one client after another."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from fedsplit.engines.base import Engine
from fedsplit.federation.cohort import Cohort, Task, Update
from fedsplit.federation.messages import Down, Failed, Opening, Up
from fedsplit.federation.roles import prepared_holding
from fedsplit.federation.trained import Trained
from fedsplit.hosting import Host
from fedsplit.records.images import Holding
from fedsplit.training import Training


class Inline(Engine):
    """Plain loops. What it computes is what every other engine has to compute."""

    grains = frozenset({"round", "step"})

    def train(self, training: Training) -> Trained:
        """The whole training, in this process."""
        protocol, plan, start = training.protocol, training.plan, training.start
        with plan.threaded():
            cohort = _InlineCohort(training)
            return protocol.train(plan, cohort, start, training.recording, training.data.test, training.checkpoint)


class _InlineCohort(Cohort):
    def __init__(self, training: Training) -> None:
        self._training = training
        holding = lru_cache(maxsize=None)(self._prepared)
        self._host = Host(training.protocol, training.plan, training.recording, holding)
        self._answers: dict[int, Down] = {}

    @property
    def size(self) -> int:
        return len(self._training.data.holdings)

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
        plan, data = self._training.plan, self._training.data
        return prepared_holding(plan, client, data.holdings[client], data.public, self._training.start.client)
