"""One client's round, step by step: what it says, what it is answered, and what it has in the end."""

from collections.abc import Generator
from itertools import islice

import torch

from fedsplit.federation.cohort import blamed
from fedsplit.federation.ledger import Recording
from fedsplit.federation.messages import (
    Closing,
    Crossing,
    CutGradient,
    Down,
    Hidden,
    Opening,
    OwnGradient,
    SharedGradient,
    Up,
    size_of,
)
from fedsplit.federation.plan import Plan, State, finite, state_of
from fedsplit.federation.roles import Client
from fedsplit.federation.sampling import expected_mass, step_count
from fedsplit.records.exchange import Exchange
from fedsplit.records.images import Holding
from fedsplit.split import Home

Conversation = Generator[Up, Down, None]
"""Yields what the client says and is sent the answers; the last thing said is a Closing."""


def converse(
    plan: Plan,
    home: Home,
    opening: Opening,
    holding: Holding,
    recording: Recording,
    *,
    batch_size: int,
    epochs: int,
    together: bool,
    remembers: bool,
) -> Conversation:
    """A client's round over its batches. What is at `home` is overwritten.

    together: gradients are handed over after each backward pass, and the client moves along the one that comes back.
    remembers: whether the client closes with what its optimiser knows.
    """
    plan.prepare(home.whole, opening.state, training=True)
    # Built here and not at the first word: building an optimiser for the first time in a process loads parts of torch
    # that draw from the global stream, and the first word is said with that stream set.
    rng = plan.seeds("release", opening.round, opening.client)
    client = Client(plan, home, holding, opening.memory, rng)
    return _steps(plan, client, opening, recording, batch_size, epochs, together=together, remembers=remembers)


def _steps(
    plan: Plan,
    client: Client,
    opening: Opening,
    recording: Recording,
    batch_size: int,
    epochs: int,
    *,
    together: bool,
    remembers: bool,
) -> Conversation:
    batches = (
        (epoch, batch)
        for epoch in range(epochs)
        for batch in client.batches(batch_size, plan.seeds("batches", opening.round, opening.client, epoch))
    )
    allowed = step_count(len(client.holding), batch_size, epochs, opening.share)
    expected = expected_mass(plan.defense.samples, client.holding, batch_size)
    exchanges: list[Exchange] = []
    losses: list[float] = []
    steps = up = down = 0
    for epoch, batch in islice(batches, allowed):
        crossing = client.send(batch, expected)
        answer = yield crossing
        up += crossing.bytes
        leaving: torch.Tensor | None = None
        if isinstance(answer, Hidden):
            back, loss = client.end(answer)
            leaving = back.gradient
            losses.append(loss)
            up += size_of(leaving)
            down += size_of(answer.features)
            answer = yield back
        assert isinstance(answer, CutGradient), "a crossing is answered by a gradient"
        client.backward(answer)
        down += size_of(answer.gradient)
        if together:
            own = finite(client.gradients, "client")
            joint = yield OwnGradient(own)
            assert isinstance(joint, SharedGradient), "gradients are answered by the joint one"
            client.step(joint.values)
            up += _total(own)
            down += _total(joint.values)
        else:
            client.step()
        if epoch == 0 and opening.round in recording.training:
            # Where rows are drawn, one may cross again; each is a target once.
            seen = torch.cat([batch.rows[:0], *(exchange.rows for exchange in exchanges)])
            kept = batch.watched & ~torch.isin(batch.rows, seen)
            if bool(kept.any()):
                exchanges.append(_watched(opening, steps, batch, kept, crossing, answer, leaving))
        steps += 1
    yield Closing(
        opening.client,
        opening.returns,
        int((client.holding.rows >= 0).sum()),
        steps,
        finite(state_of(client.home), "client") if opening.returns else {},
        client.memory if opening.returns and remembers else {},
        tuple(exchanges),
        tuple(losses),
        (up, down),
    )


class Speaker:
    """A conversation between two of its turns. Each turn draws from a stream of its own, whoever speaks in between."""

    def __init__(self, plan: Plan, opening: Opening, conversation: Conversation) -> None:
        self.opening = opening
        self._plan = plan
        self._conversation = conversation
        self._turn = 0

    def say(self, answer: Down | None) -> Up:
        """What the client says next; the first turn has no answer. Failures are blamed on this client."""
        name = (self.opening.round, self.opening.client, self._turn)
        self._turn += 1
        with blamed(self.opening), self._plan.seeds.fork("forward", *name):
            return next(self._conversation) if answer is None else self._conversation.send(answer)


def _total(state: State) -> int:
    return sum(size_of(value) for value in state.values())


def _watched(
    opening: Opening,
    step: int,
    batch: Holding,
    kept: torch.Tensor,
    crossing: Crossing,
    answer: CutGradient,
    leaving: torch.Tensor | None,
) -> Exchange:
    return Exchange(
        opening.round,
        opening.client,
        step,
        batch.rows[kept].clone(),
        crossing.smashed.cpu()[kept].clone(),
        answer.gradient.cpu()[kept].clone(),
        None if crossing.labels is None else batch.labels[kept].clone(),
        None if leaving is None else leaving.cpu()[kept].clone(),
    )
