"""Split learning as first proposed (Gupta, Raskar, Journal of Network and Computer Applications 116, 2018): one client
at a time, which hands its segment to the next."""

from dataclasses import replace
from typing import Literal

from fedsplit.federation.cohort import Cohort
from fedsplit.federation.messages import Closing, Crossing, Failed
from fedsplit.federation.plan import Plan, state_of
from fedsplit.federation.service import Service
from fedsplit.federation.trained import Standing
from fedsplit.protocols.base import Protocol, counted
from fedsplit.records.leak import Asset
from fedsplit.split import Segments


class Sequential(Protocol):
    """Clients take turns in ascending order; each begins with the segment and the optimiser that the one before it
    ended with, and the server segment goes on through all turns. Nothing is averaged."""

    grain = "step"
    hands_on = True

    relay: Literal["clients", "server"] = "clients"
    """Who hands the client segment on. clients: peer to peer, so the server never holds it. server: through the
    server, which sees it each time."""

    @property
    def withheld(self) -> frozenset[Asset]:
        """The client segment, where clients hand it on among themselves."""
        return frozenset({Asset.CLIENT_WEIGHTS}) if self.relay == "clients" else frozenset()

    def round(
        self, plan: Plan, cohort: Cohort, segments: Segments, standing: Standing
    ) -> tuple[Standing, tuple[Closing, ...]]:
        """One client after the other. What a client held that dropped out is lost, and the next begins before it."""
        service = Service(plan, cohort, segments, standing, self.rounds)
        state, memory = standing.client, standing.common_memory
        closings: list[Closing] = []
        for opening in self.openings(plan, cohort.size, standing):
            cohort.open([replace(opening, state=state, memory=memory)])
            said = service.take(opening.client)
            while isinstance(said, Crossing):
                said = service.exchange(opening.client, said) or service.take(opening.client)
            if isinstance(said, Failed):
                said = self.absent(opening.client, said)
            assert isinstance(said, Closing), "a client that sends no more has closed"
            closings.append(said)
            if said.returns:
                state, memory = said.state, said.memory
        after = replace(
            standing,
            client=state,
            server=state_of(service.server.segment),
            server_memory=service.server.memory,
            # Within a round the optimiser goes along in any case; `state` says whether it does between rounds.
            common_memory=memory if plan.optimizer.state == "keep" else {},
        )
        return counted(standing, after, tuple(closings), tuple(service.server.losses)), tuple(closings)
