"""SplitFed, second version (Thapa, Chamikara, Camtepe, Sun, AAAI 2022): one server segment, trained by one client at a
time."""

from dataclasses import replace

import torch

from fedsplit.federation.average import Statistics
from fedsplit.federation.cohort import Cohort
from fedsplit.federation.messages import Closing, Crossing, Failed
from fedsplit.federation.plan import Plan
from fedsplit.federation.service import Service
from fedsplit.federation.trained import Standing
from fedsplit.protocols.base import Protocol, averaged, counted, homes, served
from fedsplit.split import Segments


class SplitFedV2(Protocol):
    """The server takes one batch of every client, in an order drawn anew each time, and moves after each; the client
    segments move side by side and are averaged by the number of examples after the round."""

    grain = "step"

    statistics: Statistics = "mean"
    """How running statistics of batch normalisation in client segments are averaged: like parameters, or pooled."""

    def round(
        self, plan: Plan, cohort: Cohort, segments: Segments, standing: Standing
    ) -> tuple[Standing, tuple[Closing, ...]]:
        """Batches in seeded order until every client has closed, then the average of the client segments."""
        service = Service(plan, cohort, segments, standing, self.rounds)
        openings = self.openings(plan, cohort.size, standing)
        cohort.open(openings)
        closed: dict[int, Closing] = {}
        clients = [opening.client for opening in openings]
        order = plan.seeds("turns", standing.round + 1)
        while clients:
            for place in torch.randperm(len(clients), generator=order).tolist():
                client = clients[place]
                said = service.take(client)
                if isinstance(said, Crossing):
                    said = service.exchange(client, said)
                if isinstance(said, Failed):
                    said = self.absent(client, said)
                if isinstance(said, Closing):
                    closed[client] = said
            clients = [client for client in clients if client not in closed]
        closings = tuple(closed[opening.client] for opening in openings)
        client = averaged(standing.client, homes(closings), self.statistics)
        after = replace(served(plan, standing, closings, service.server), client=client)
        return counted(standing, after, closings, tuple(service.server.losses)), closings
