"""The contract of a protocol: the order of exchanges, and the loop over rounds that all of them share."""

import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt

from fedsplit.component import Component, Family
from fedsplit.errors import EngineError
from fedsplit.federation.average import Statistics, average
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.cohort import Cohort, LostWorkerError, Task, Update
from fedsplit.federation.conversation import Conversation, converse
from fedsplit.federation.evaluation import evaluate
from fedsplit.federation.ledger import Ledger, Page, Recording
from fedsplit.federation.messages import Closing, Crossing, Failed, HiddenGradient, Opening
from fedsplit.federation.plan import Plan, State, finite, state_of
from fedsplit.federation.roles import HonestServer, Server
from fedsplit.federation.sampling import batch_count, rate, step_count
from fedsplit.federation.trained import Standing, Trained
from fedsplit.progress import track
from fedsplit.records.images import Holding, Images
from fedsplit.records.leak import Asset
from fedsplit.records.step import Draws, Progress
from fedsplit.split import Home, Segments

_LOSSES_PER_ROUND = 2
"""Lost workers after which a round is begun again: what kills every new one would go on for ever."""


class Protocol(Component):
    """Who trains with whom, in which order."""

    grain: ClassVar[Literal["round", "step"]]
    """round: a whole local round may run where the client is. step: every step crosses the cut."""
    hands_on: ClassVar[bool] = False
    """Whether a client's optimiser goes on to somebody else within a round."""

    rounds: PositiveInt = 5
    """Global rounds, each ending with a checkpoint."""
    local_epochs: PositiveInt = 1
    """Passes of each client over its own rows per round."""
    batch_size: PositiveInt = 64
    """Images per client and step."""
    participation: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the clients that take part in a round, drawn anew each time; at least one does."""
    drop_out: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Chance that a participant falls silent after a random share of its steps: what it sent has crossed the cut, what
    it holds is lost to this round."""
    stragglers: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Chance that a participant is slow: its round closes after `pace` of its steps, and what it did counts in full
    (as in FedProx: Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, MLSys 2020)."""
    pace: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of its steps that a straggler gets done."""

    on_client_failure: Literal["stop", "skip"] = "stop"
    """A client that raises, or sends what nobody can train on, stops the run or counts as dropped out of the round."""

    @property
    def together(self) -> bool:
        """Whether clients hand over their gradients after each backward pass, and move along a common one."""
        return False

    @property
    def withheld(self) -> frozenset[Asset]:
        """What a server that follows this protocol never holds, whatever the threat grants it."""
        return frozenset()

    @abstractmethod
    def round(
        self, plan: Plan, cohort: Cohort, segments: Segments, standing: Standing
    ) -> tuple[Standing, tuple[Closing, ...]]:
        """One global round; what the clients closed with is what the ledger may keep. The server's `segments` are
        overwritten."""

    def conversation(
        self, plan: Plan, home: Home, opening: Opening, holding: Holding, recording: Recording
    ) -> Conversation:
        """A client's part of a round. What is at `home` is overwritten."""
        return converse(
            plan,
            home,
            opening,
            holding,
            recording,
            batch_size=self.batch_size,
            epochs=self.local_epochs,
            together=self.together,
            remembers=self.hands_on or plan.optimizer.state == "keep",
        )

    def local_round(self, plan: Plan, segments: Segments, task: Task, holding: Holding, recording: Recording) -> Update:
        """A client's whole round beside a copy of the server segment. `segments` are overwritten."""
        opening = task.opening
        plan.prepare(segments.server, task.server_state, training=True)
        rng, progress = plan.seeds("server", opening.round, opening.client), Progress(opening.round, self.rounds)
        server = HonestServer(plan, segments.server, task.server_memory, rng, progress)
        conversation = self.conversation(plan, segments.home, opening, holding, recording)
        with plan.seeds.fork("forward", opening.round, opening.client):
            said = next(conversation)
            while not isinstance(said, Closing):
                assert isinstance(said, Crossing | HiddenGradient), "a local round shares no gradients"
                answer = server.answer(said)
                server.move()
                said = conversation.send(answer)
        return Update(said, finite(state_of(segments.server), "server"), server.memory, tuple(server.losses))

    def steps(self, examples: tuple[int, ...]) -> int:
        """How many exchanges a whole training takes with clients of these sizes: one per batch, epoch and round.

        Exact where all take part to the end, or all are of one size; else about the mean over who may be drawn.
        """
        batches = sum(batch_count(count, self.batch_size) for count in examples)
        per_epoch = batches * self._taking_part(len(examples)) / len(examples)
        return round(per_epoch * self.local_epochs * self.rounds)

    def draws(self, plan: Plan, examples: tuple[int, ...]) -> tuple[Draws, ...]:
        """How often each client's rows may have been trained on in the whole training, with clients of these sizes.

        Who failed, or closed early, is counted as if it had gone as far as it was to go.
        """
        steps = [0] * len(examples)
        for number in range(1, self.rounds + 1):
            for client in self._participants(plan, len(examples), number):
                share, _ = self._fate(plan, number, client)
                steps[client] += step_count(examples[client], self.batch_size, self.local_epochs, share)
        return tuple(Draws(rate(rows, self.batch_size), count) for rows, count in zip(examples, steps, strict=True))

    def absent(self, client: int, failed: Failed) -> Closing:
        """What counts for a client that failed. Raises EngineError where the run is to stop."""
        if self.on_client_failure == "stop":
            raise EngineError(failed.line)
        return Closing(client, False, 0, 0, {}, {}, (), (), (0, 0))

    def openings(self, plan: Plan, clients: int, standing: Standing) -> list[Opening]:
        """Who takes part in the next round, in ascending order, from where, and how far each of them gets."""
        number = standing.round + 1
        return [self._opening(plan, number, client, standing) for client in self._participants(plan, clients, number)]

    def train(
        self, plan: Plan, cohort: Cohort, start: Standing, recording: Recording, test: Images, checkpoint: Checkpoint
    ) -> Trained:
        """All rounds, from the last checkpoint on; each round is on disk before the next one begins."""
        found = checkpoint.load()
        standing, ledger = found if found is not None else (start, Ledger(()))
        segments = plan.segments()
        remaining = range(standing.round + 1, self.rounds + 1)
        for number in track(remaining, "training", len(remaining)):
            before, began = standing, time.perf_counter()
            after, closings = self._persistent_round(plan, cohort, segments, before)
            standing = replace(after, seconds=before.seconds + time.perf_counter() - began)
            page = _page(number, before, standing, closings) if recording.keeps(number) else None
            if page is not None:
                ledger = Ledger((*ledger.pages, page))
            checkpoint.save(standing, page)
        return Trained(standing, ledger, evaluate(plan, standing.deployed, standing.server, test))

    def _persistent_round(
        self, plan: Plan, cohort: Cohort, segments: Segments, standing: Standing
    ) -> tuple[Standing, tuple[Closing, ...]]:
        """The round; from its start again where a worker was lost, with the same numbers."""
        for _ in range(_LOSSES_PER_ROUND):
            try:
                return self.round(plan, cohort, segments, standing)
            except LostWorkerError:
                cohort.restore()
        return self.round(plan, cohort, segments, standing)

    def _taking_part(self, clients: int) -> int:
        return max(1, round(self.participation * clients))

    def _participants(self, plan: Plan, clients: int, number: int) -> list[int]:
        drawn = torch.randperm(clients, generator=plan.seeds("participants", number))[: self._taking_part(clients)]
        return sorted(drawn.tolist())

    def _fate(self, plan: Plan, number: int, client: int) -> tuple[float, bool]:
        """The share of its steps that a participant gets done, and whether it returns."""
        dropping, slow, part = torch.rand(3, generator=plan.seeds("fate", number, client)).tolist()
        if dropping < self.drop_out:
            return 1 - part, False
        return self.pace if slow < self.stragglers else 1.0, True

    def _opening(self, plan: Plan, number: int, client: int, standing: Standing) -> Opening:
        memory, _ = standing.memories.get(client, ({}, {}))
        return Opening(number, client, standing.held_by(client), memory, *self._fate(plan, number, client))


def counted(
    before: Standing, after: Standing, closings: tuple[Closing, ...], losses: tuple[float, ...] = ()
) -> Standing:
    """The next standing, with this round's steps, bytes and mean loss. losses: where the labels are at the server."""
    told = losses or tuple(loss for closing in closings for loss in closing.losses)
    # At one server a client has losses even where it fails later.
    if not told or not any(closing.steps for closing in closings):
        remedy = "the first one's cause shows with protocol.on_client_failure: stop"
        raise EngineError("every client failed", at=f"round {before.round + 1}", remedy=remedy)
    return replace(
        after,
        round=before.round + 1,
        losses=(*before.losses, sum(told) / len(told)),
        bytes=(
            before.bytes[0] + sum(closing.bytes[0] for closing in closings),
            before.bytes[1] + sum(closing.bytes[1] for closing in closings),
        ),
        dropped=before.dropped + sum(not closing.returns for closing in closings),
        steps=before.steps + sum(closing.steps for closing in closings),
    )


def served(plan: Plan, standing: Standing, closings: tuple[Closing, ...], server: Server) -> Standing:
    """After a round in which one server segment served all clients: everything but their segments."""
    kept = {closing.client: (closing.memory, State()) for closing in closings if closing.returns}
    return replace(
        standing,
        server=finite(state_of(server.segment), f"server, round {standing.round + 1}"),
        memories={**standing.memories, **kept} if plan.optimizer.state == "keep" else {},
        server_memory=server.memory,
    )


def averaged(before: State, returned: Sequence[tuple[State, int]], statistics: Statistics) -> State:
    """The mean of (segment, examples), weighted; where nobody came back, what was there before."""
    if not returned:
        return before
    return average([state for state, _ in returned], [examples for _, examples in returned], statistics)


def homes(closings: Sequence[Closing]) -> list[tuple[State, int]]:
    """What those hold who came back, each with the number of examples behind it."""
    return [(closing.state, closing.examples) for closing in closings if closing.returns]


def _page(number: int, before: Standing, standing: Standing, closings: tuple[Closing, ...]) -> Page:
    return Page(
        number,
        before.client,
        standing.client,
        standing.server,
        tuple((closing.client, closing.state) for closing in closings if closing.returns),
        tuple(exchange for closing in closings for exchange in closing.exchanges),
        {client: (before.held_by(client), after) for client, after in standing.apart.items()},
    )


PROTOCOLS: Family[Protocol] = Family("protocols", Protocol)
AnyProtocol = Annotated[Protocol, PROTOCOLS]
