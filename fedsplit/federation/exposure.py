"""Everything that any adversary could see or know about a trained federation; a threat then takes away most of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor, nn

from fedsplit.defenses.base import Deployed
from fedsplit.errors import EngineError
from fedsplit.federation.deployment import DeployedAfter, deployed_after
from fedsplit.federation.ledger import Page
from fedsplit.federation.plan import Plan, State
from fedsplit.federation.roles import FederationData
from fedsplit.federation.trained import Trained
from fedsplit.layers.disturbed import left_out
from fedsplit.layers.gaussian_code import as_in_training
from fedsplit.layers.sparse_coding import with_gradients
from fedsplit.records.leak import Auxiliary, ClientSegment, Leak, LeakKind, Pairs, Query
from fedsplit.seeding import drawn_from
from fedsplit.split import Segment

_AT_ONCE = 512
_STEP = 64
"""Images in a batch with which an adversary does as a training step does."""


@dataclass(frozen=True)
class Exposure:
    """The whole leak, and what no threat passes on: the data-set row behind each of its targets, and where deployed
    clients act what would have been seen of each, (targets, *seen shape), had they not."""

    leak: Leak
    rows: Tensor
    clean: Tensor | None = None


@dataclass(frozen=True)
class Observation:
    """Which leak is looked at. defended: whether queries and pairs pass through the defense, as for an adversary who
    knows that there is one. client: of whom alone; None for all clients, who then hold the same segment. repeats: of
    how many answers the mean is seen, wherever somebody answers."""

    kind: LeakKind
    round: int
    defended: bool
    client: int | None = None
    repeats: int = 1


def victims(
    plan: Plan,
    trained: Trained,
    data: FederationData,
    kind: LeakKind,
    round: int,  # noqa: A002
) -> tuple[int | None, ...]:
    """Whom an adversary has to attack apart: every client with targets that has a segment of its own, or once deployed
    a way of its own to answer; else (None,)."""
    page = trained.ledger.page(round)
    # The model is one; its scores are asked of one client, any.
    if not page.apart and (kind in ("training", "model") or not plan.defense.deploys):
        return (None,)
    if kind != "training":
        return tuple(client for client, own in enumerate(data.visitors) if len(own))
    return tuple(sorted({exchange.client for exchange in page.exchanges}))


def expose(
    plan: Plan,
    trained: Trained,
    data: FederationData,
    auxiliary: Auxiliary,
    observation: Observation,
    deployed: DeployedAfter | None = None,
) -> Exposure:
    """The leak of one recorded round. Its modules and tensors are copies: nothing in it belongs to a party.

    deployed: `deployed_after` of this federation, where somebody remembers it: to deploy may be a training of its own.

    Raises EngineError where no client that holds a target took part in the round of a training leak.
    """
    page, client, kind = trained.ledger.page(observation.round), observation.client, observation.kind
    own = client if page.apart else None
    state = page.before(own) if kind == "training" else page.after(own)
    number = client or 0
    deployed = deployed or partial(deployed_after, plan, trained, data)
    asked = _OPEN
    if observation.defended:
        # As long as it trains, a client does no more than release.
        asked = plan.defense.released("training") if kind == "training" else deployed(page.round, number)
    query = partial(_answered, plan, _shown(plan, state, page.server, asked, observation, auxiliary.images))
    rng = plan.seeds("auxiliary", kind, observation.round, *(() if client is None else (client,)))
    looked_at = range(len(data.holdings)) if client is None else (client,)
    targets = (
        _training(plan, page, looked_at)
        if kind == "training"
        else _inference(plan, page, data, looked_at, observation, deployed, auxiliary.images)
    )
    leak = Leak(
        kind=kind,
        round=observation.round,
        image_shape=plan.shape,
        classes=plan.classes,
        auxiliary=auxiliary,
        smashed=targets.smashed,
        cut_gradients=targets.gradients,
        labels=targets.labels,
        head_gradients=targets.head_gradients,
        auxiliary_pairs=Pairs(query(auxiliary.images, rng), query(auxiliary.validation_images, rng)),
        client_queries=query,
        client_weights=ClientSegment(
            _weights(plan, state, kind), tuple(_weights(plan, own, kind) for _, own in targets.returned)
        ),
        server_segments=tuple(_server(plan, past.server) for past in trained.ledger.until(observation.round)),
        defense=plan.defense,
        repeats=None if kind == "training" else observation.repeats,
        scores=query if kind == "model" else None,
        model=_model(plan, state, page.server) if kind == "model" else None,
        learned=None if plan.hijacking is None else _learned(plan, trained, observation),
    )
    return Exposure(leak, targets.rows, targets.clean)


@dataclass(frozen=True)
class _Targets:
    rows: Tensor
    smashed: Tensor
    gradients: Tensor | None = None
    labels: Tensor | None = None
    head_gradients: Tensor | None = None
    returned: tuple[tuple[int, State], ...] = ()
    clean: Tensor | None = None


def _inference(
    plan: Plan,
    page: Page,
    data: FederationData,
    clients: Sequence[int],
    observation: Observation,
    deployed: DeployedAfter,
    others: Tensor,
) -> _Targets:
    """One pass of the defended model over the targets, each answered by the client that holds it."""
    rows: list[Tensor] = []
    seen: list[list[Tensor]] = []
    for client in clients:
        own = data.visitors[client]
        if not len(own):
            continue
        state = page.after(client if page.apart else None)
        # The targets themselves are defended, whatever the adversary knows.
        ways = [deployed(page.round, client), *([_OPEN] if plan.defense.deploys else [])]
        shown = [_shown(plan, state, page.server, way, observation, others) for way in ways]
        seen.append([_answered(plan, one, own.pixels, plan.seeds("inference", page.round, client)) for one in shown])
        rows.append(own.rows)
    # Ascending rows: the order tells nothing about which client a target belongs to.
    joined = torch.cat(rows)
    order = joined.argsort()
    smashed, *clean = [torch.cat(parts)[order.to(plan.device)] for parts in zip(*seen, strict=True)]
    return _Targets(joined[order], smashed, clean=clean[0] if clean else None)


def _training(plan: Plan, page: Page, clients: Sequence[int]) -> _Targets:
    """The watched rows as they crossed the cut in this round."""
    exchanges = [exchange for exchange in page.exchanges if exchange.client in clients]
    if not exchanges:
        remedy = "attack another round, or raise protocol.participation or targets.count"
        raise EngineError("no target crossed the cut", at=f"round {page.round}", remedy=remedy)
    rows = torch.cat([exchange.rows for exchange in exchanges])
    order = rows.argsort()
    smashed = torch.cat([exchange.smashed for exchange in exchanges])[order]
    gradients = torch.cat([exchange.gradient for exchange in exchanges])[order]
    labels = [exchange.labels for exchange in exchanges if exchange.labels is not None]
    leaving = [exchange.head_gradient for exchange in exchanges if exchange.head_gradient is not None]
    device = plan.device
    return _Targets(
        rows[order],
        smashed.to(device),
        gradients.to(device),
        torch.cat(labels)[order].to(device) if labels else None,
        torch.cat(leaving)[order].to(device) if leaving else None,
        tuple((client, state) for client, state in page.returned if client in clients),
    )


def _learned(plan: Plan, trained: Trained, observation: Observation) -> State:
    assert observation.round == trained.standing.round, "no other round's memory of an impostor is kept"
    return {name: value.to(plan.device, copy=True) for name, value in trained.standing.server_memory.items()}


def _shown(
    plan: Plan, state: State, server: State, deployed: Deployed, observation: Observation, others: Tensor
) -> Query:
    """What one pass of a client over images shows where this leak is. state: of all that it holds. others: images that
    make batches of few ones full, where it matters who is in a batch."""
    client = _client(plan, state, observation.kind, others)
    look = _look(plan, state, server, deployed, observation.kind)

    def answer(images: Tensor, smashed: Tensor, rng: Generator) -> Tensor:
        released = deployed.release(smashed, rng)
        with drawn_from(rng):
            return look(images, released)

    def shown(images: Tensor, rng: Generator) -> Tensor:
        # Blocks may draw at inference, too: from nothing but the stream of the question.
        before = rng.get_state()
        with drawn_from(rng):
            smashed = client(images)
        certain = torch.equal(before, rng.get_state())
        total = answer(images, smashed, rng)
        for _ in range(observation.repeats - 1):
            if not certain:
                with drawn_from(rng):
                    smashed = client(images)
            total = total + answer(images, smashed, rng)
        return total / observation.repeats if observation.repeats > 1 else total

    return shown


Look = Callable[[Tensor, Tensor], Tensor]
"""(images, released) -> what is seen of them."""


def _look(plan: Plan, state: State, server: State, deployed: Deployed, kind: LeakKind) -> Look:
    # Whoever asks at the cut keeps no server segment, which may be the largest of all.
    if kind in ("inference", "training"):
        return lambda _, released: released
    segments = plan.segments()
    plan.prepare(segments.home.whole, state, training=False)
    plan.prepare(segments.server, server, training=False)
    hidden, last = segments.behind
    if kind == "hidden":
        return lambda _, released: hidden(released)
    return lambda images, released: deployed.answer(images, last(hidden(released)).softmax(dim=1))


_OPEN = Deployed(release=lambda smashed, _: smashed, answer=lambda _, confidences: confidences)


@torch.no_grad()
def _answered(plan: Plan, shown: Query, images: Tensor, rng: Generator) -> Tensor:
    return torch.cat([shown(part.to(plan.device, plan.dtype), rng) for part in images.split(_AT_ONCE)])


def _client(plan: Plan, state: State, kind: LeakKind, others: Tensor) -> Callable[[Tensor], Tensor]:
    """Images to smashed data. While a client trains, dropout drops, and normalisation goes by who else is in a step."""
    if kind != "training":
        return _prepared(plan, state, training=False)
    client, fill = _prepared(plan, state, training=True), others[:_STEP].to(plan.device, plan.dtype)

    def stepped(images: Tensor) -> Tensor:
        with plan.stepping():
            return client(torch.cat([images, fill[len(images) :]]))[: len(images)].to(plan.dtype)

    return lambda images: torch.cat([stepped(some) for some in images.split(_STEP)])


def _weights(plan: Plan, state: State, kind: LeakKind) -> nn.Module:
    client = _prepared(plan, state, training=False)
    return _held(as_in_training(client) if kind == "training" else client)


def _prepared(plan: Plan, state: State, *, training: bool) -> Segment:
    home = plan.home()
    plan.prepare(home.whole, state, training=training)
    return home.client


def _model(plan: Plan, state: State, server: State) -> nn.Module:
    segments = plan.segments()
    plan.prepare(segments.home.whole, state, training=False)
    plan.prepare(segments.server, server, training=False)
    return _held(segments.whole.eval())


def _server(plan: Plan, state: State) -> nn.Module:
    return _held(plan.prepare(plan.segments().server, state, training=False))


def _held(network: nn.Module) -> nn.Module:
    """As an adversary has it who holds the weights: without noise that is no part of them, and with every gradient
    there is, whether a training had a use for it or not."""
    return with_gradients(left_out(network))
