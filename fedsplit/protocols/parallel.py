"""Parallel split learning (Jeon, Kim, ICOIN 2020): the server trains on the joined batches of all clients."""

from dataclasses import replace
from typing import Literal

import torch

from fedsplit.federation.average import Statistics
from fedsplit.federation.cohort import Cohort
from fedsplit.federation.messages import Closing, Crossing, Failed, OwnGradient, SharedGradient
from fedsplit.federation.plan import Plan, State
from fedsplit.federation.service import Service
from fedsplit.federation.trained import Standing
from fedsplit.protocols.base import Protocol, averaged, counted, homes, served
from fedsplit.records.leak import Asset
from fedsplit.split import Segments


class Parallel(Protocol):
    """One server segment, one step for all clients at once; who has no batch left waits for the next round."""

    grain = "step"

    sync: Literal["step", "round", "never"] = "step"
    """What keeps client segments alike. step: all move along the row-weighted sum of their gradients. round: each moves
    along its own, and they are averaged by the number of examples after the round. never: each moves along its own for
    ever, nobody else holds it, and it is deployed and attacked as this client's alone."""
    statistics: Statistics = "mean"
    """How running statistics of batch normalisation in client segments are averaged: like parameters, or pooled."""

    @property
    def together(self) -> bool:
        """Whether clients move along a common gradient."""
        return self.sync == "step"

    @property
    def withheld(self) -> frozenset[Asset]:
        """The client segments, where nobody averages them."""
        return frozenset({Asset.CLIENT_WEIGHTS}) if self.sync == "never" else frozenset()

    def round(
        self, plan: Plan, cohort: Cohort, segments: Segments, standing: Standing
    ) -> tuple[Standing, tuple[Closing, ...]]:
        """Joint steps until every client has closed."""
        service = Service(plan, cohort, segments, standing, self.rounds)
        openings = self.openings(plan, cohort.size, standing)
        if self.together:
            openings = [replace(opening, memory=standing.common_memory) for opening in openings]
        cohort.open(openings)
        closed: dict[int, Closing] = {}
        waves: list[list[Closing]] = []
        clients = [opening.client for opening in openings]
        while clients:
            said = {client: service.take(client) for client in clients}
            crossings = {client: message for client, message in said.items() if isinstance(message, Crossing)}
            failed = {client: message for client, message in said.items() if isinstance(message, Failed)}
            failed |= service.joint_exchange(crossings)
            clients = [client for client in crossings if client not in failed]
            if clients and self.together:
                failed |= _step_together(cohort, {client: crossings[client] for client in clients})
                clients = [client for client in clients if client not in failed]
            absent = [self.absent(client, failure) for client, failure in failed.items()]
            waves.append([*absent, *(message for message in said.values() if isinstance(message, Closing))])
            closed |= {closing.client: closing for closing in waves[-1]}
        closings = tuple(closed[opening.client] for opening in openings)
        after = served(plan, standing, closings, service.server)
        if self.sync == "never":
            own = {closing.client: closing.state for closing in closings if closing.returns}
            everybody = {client: standing.held_by(client) for client in range(cohort.size)}
            after = replace(after, apart={**everybody, **own})
        elif self.sync == "round":
            after = replace(after, client=averaged(standing.client, homes(closings), self.statistics))
        else:
            # Who had fewer batches stopped on the way: those who came furthest have the segment.
            furthest = next((wave for wave in reversed(waves) if any(closing.returns for closing in wave)), [])
            client = averaged(standing.client, homes(furthest), self.statistics)
            memory = next((closing.memory for closing in furthest if closing.returns), standing.common_memory)
            kept = memory if plan.optimizer.state == "keep" else {}
            after = replace(after, client=client, memories={}, common_memory=kept)
        return counted(standing, after, closings, tuple(service.server.losses)), closings


def _step_together(cohort: Cohort, crossings: dict[int, Crossing]) -> dict[int, Failed]:
    """The sum of gradients, each by its batch's share of the mass, to everybody; returns those who failed."""
    said = {client: cohort.take(client) for client in crossings}
    own = {client: message for client, message in said.items() if isinstance(message, OwnGradient)}
    if own:
        masses = torch.stack([crossings[client].mass for client in own])
        shares = dict(zip(own, masses / masses.sum(), strict=True))
        joint: State = {}
        for name in {name: None for message in own.values() for name in message.values}:
            # Whose client has no gradient for a parameter adds nothing to the sum.
            having = [client for client, message in own.items() if name in message.values]
            values = torch.stack([own[client].values[name] for client in having])
            joint[name] = torch.einsum("c,c...->...", torch.stack([shares[client] for client in having]), values)
        cohort.post({client: SharedGradient(joint) for client in own})
    return {client: message for client, message in said.items() if isinstance(message, Failed)}
