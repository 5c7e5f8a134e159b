"""SplitFed, first version (Thapa, Chamikara, Camtepe, Sun, AAAI 2022): every client has its own copy of the server."""

from fedsplit.federation.average import Statistics
from fedsplit.federation.cohort import Cohort, Task, Update
from fedsplit.federation.messages import Closing, Failed, Opening
from fedsplit.federation.plan import Plan
from fedsplit.federation.trained import Standing
from fedsplit.protocols.base import Protocol, averaged, counted, homes
from fedsplit.split import Segments


class SplitFedV1(Protocol):
    """In each round the sampled clients train side by side, each with a copy of the server segment; both segments are
    then averaged by the number of examples."""

    grain = "round"

    statistics: Statistics = "mean"
    """How running statistics of batch normalisation are averaged: like parameters, or as the pooled variance."""

    def round(
        self, plan: Plan, cohort: Cohort, segments: Segments, standing: Standing
    ) -> tuple[Standing, tuple[Closing, ...]]:
        """Local rounds at the sampled clients, then the average of both segments over those who return."""
        del segments
        openings = self.openings(plan, cohort.size, standing)
        closed: dict[int, Closing] = {}
        updates: dict[int, Update] = {}
        for client, answer in cohort.local_rounds([_task(opening, standing) for opening in openings]):
            if isinstance(answer, Failed):
                closed[client] = self.absent(client, answer)
            else:
                closed[client], updates[client] = answer.closing, answer
        closings = tuple(closed[opening.client] for opening in openings)
        # In the order of the clients, whoever came first.
        trained = [updates[closing.client] for closing in closings if closing.client in updates]
        returned = [update for update in trained if update.closing.returns]
        copies = [(update.server_state, update.closing.examples) for update in returned]
        kept = {update.closing.client: (update.closing.memory, update.server_memory) for update in returned}
        after = Standing(
            standing.round,
            averaged(standing.client, homes(closings), self.statistics),
            averaged(standing.server, copies, self.statistics),
            {**standing.memories, **kept} if plan.optimizer.state == "keep" else {},
        )
        losses = tuple(loss for update in trained for loss in update.losses)
        return counted(standing, after, closings, losses), closings


def _task(opening: Opening, standing: Standing) -> Task:
    _, memory = standing.memories.get(opening.client, ({}, {}))
    return Task(opening, standing.server, memory)
