"""SplitFed, first version (Thapa, Chamikara, Camtepe, Sun, AAAI 2022): every client has its own copy of the server."""

from math import ceil
from typing import Annotated

import torch
from pydantic import Field, PositiveInt

from fedsplit.federation.average import Statistics, average
from fedsplit.federation.ledger import Recording
from fedsplit.federation.plan import Plan, state_of
from fedsplit.federation.roles import Client, Cohort, Crossing, Server, Task, Update
from fedsplit.federation.trained import Standing
from fedsplit.protocols.base import Protocol
from fedsplit.records.exchange import Exchange
from fedsplit.records.images import Holding
from fedsplit.split import Segments


class SplitFedV1(Protocol):
    """In each round the sampled clients train side by side, each with a copy of the server segment; both segments are
    then averaged by the number of examples."""

    grain = "round"

    local_epochs: PositiveInt = 1
    """Passes of each client over its own rows per round."""
    participation: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the clients that take part in a round, drawn anew each time; at least one does."""
    statistics: Statistics = "mean"
    """How running statistics of batch normalisation are averaged: like parameters, or as the pooled variance."""

    def round(self, plan: Plan, cohort: Cohort, standing: Standing) -> tuple[Standing, tuple[Update, ...]]:
        """Local rounds at the sampled clients, then the average of both segments."""
        number = standing.round + 1
        tasks = [
            Task(number, client, standing.client, standing.server, *standing.memories.get(client, ({}, {})))
            for client in self._participants(plan, cohort.size, number)
        ]
        updates = cohort.local_rounds(tasks)
        examples = [update.examples for update in updates]
        losses = [loss for update in updates for loss in update.losses]
        kept = {update.client: (update.client_memory, update.server_memory) for update in updates}
        return Standing(
            number,
            average([update.client_state for update in updates], examples, self.statistics),
            average([update.server_state for update in updates], examples, self.statistics),
            {**standing.memories, **kept} if plan.optimizer.state == "keep" else {},
            (*standing.losses, sum(losses) / len(losses)),
            (
                standing.bytes[0] + sum(update.bytes[0] for update in updates),
                standing.bytes[1] + sum(update.bytes[1] for update in updates),
            ),
            standing.steps + len(losses),
        ), updates

    def local_round(self, plan: Plan, segments: Segments, task: Task, holding: Holding, recording: Recording) -> Update:
        """Split steps over the client's batches, with its own copy of the server segment."""
        name = (task.round, task.client)
        plan.prepare(segments.client, task.client_state, training=True)
        plan.prepare(segments.server, task.server_state, training=True)
        client = Client(plan, segments.client, holding, task.client_memory, plan.seeds("release", *name))
        server = Server(plan, segments.server, task.server_memory)
        exchanges: list[Exchange] = []
        losses: list[float] = []
        up = down = 0
        with plan.seeds.fork("forward", *name):
            for epoch in range(self.local_epochs):
                for batch in client.batches(self.batch_size, plan.seeds("batches", *name, epoch)):
                    crossing = client.send(batch)
                    gradient, loss = server.step(crossing)
                    client.receive(gradient)
                    up += crossing.bytes
                    down += gradient.numel() * gradient.element_size()
                    if epoch == 0 and task.round in recording.training and bool(batch.watched.any()):
                        exchanges.append(_watched(task, len(losses), batch, crossing, gradient))
                    losses.append(loss)
        return Update(
            task.client,
            int((holding.rows >= 0).sum()),
            state_of(segments.client),
            state_of(segments.server),
            client.memory,
            server.memory,
            tuple(exchanges),
            tuple(losses),
            (up, down),
        )

    def steps(self, examples: tuple[int, ...]) -> int:
        """Every participating client crosses the cut once per batch and epoch, in each round.

        Exact where all take part or all are of one size; else the mean over who may be drawn.
        """
        # A last batch of one row joins the one before it.
        batches = sum(max(1, ceil((count - 1) / self.batch_size)) for count in examples)
        per_epoch = batches * self._taking_part(len(examples)) / len(examples)
        return round(per_epoch * self.local_epochs * self.rounds)

    def _participants(self, plan: Plan, clients: int, number: int) -> tuple[int, ...]:
        drawn = torch.randperm(clients, generator=plan.seeds("participants", number))[: self._taking_part(clients)]
        return tuple(sorted(drawn.tolist()))

    def _taking_part(self, clients: int) -> int:
        return max(1, round(self.participation * clients))


def _watched(task: Task, step: int, batch: Holding, crossing: Crossing, gradient: torch.Tensor) -> Exchange:
    kept = batch.watched
    return Exchange(
        task.round,
        task.client,
        step,
        batch.rows[kept].clone(),
        crossing.smashed.cpu()[kept].clone(),
        gradient.cpu()[kept].clone(),
        batch.labels[kept].clone(),
    )
