"""Everything that any adversary could see or know about a trained federation; a threat then takes away most of it."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from fedsplit.defenses.base import Deployed
from fedsplit.errors import EngineError
from fedsplit.federation.ledger import Page
from fedsplit.federation.plan import Plan, State
from fedsplit.federation.roles import FederationData
from fedsplit.federation.trained import Trained
from fedsplit.records.images import Holding
from fedsplit.records.leak import Auxiliary, ClientSegment, Leak, LeakKind, Pairs, Query
from fedsplit.split import Segment

_AT_ONCE = 512


@dataclass(frozen=True)
class Exposure:
    """The whole leak, and the data-set row behind each of its targets (which no threat passes on)."""

    leak: Leak
    rows: Tensor


@dataclass(frozen=True)
class Observation:
    """Which leak is looked at. defended: whether queries and pairs pass through the defense, as for an adversary who
    knows that there is one."""

    kind: LeakKind
    round: int
    defended: bool


def expose(
    plan: Plan, trained: Trained, data: FederationData, auxiliary: Auxiliary, observation: Observation
) -> Exposure:
    """The leak of one recorded round. Its modules and tensors are copies: nothing in it belongs to a party.

    Raises EngineError where no client that holds a target took part in the round of a training leak.
    """
    page = trained.ledger.page(observation.round)
    state = page.client if observation.kind == "inference" else page.broadcast
    query = _query(plan, state, data, observation.defended)
    rng = plan.seeds("auxiliary", observation.kind, observation.round)
    targets = _inference(plan, page, data) if observation.kind == "inference" else _training(plan, page)
    leak = Leak(
        kind=observation.kind,
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
        client_weights=ClientSegment(_client(plan, state), tuple(_client(plan, own) for _, own in targets.returned)),
        server_segments=tuple(_server(plan, past.server) for past in trained.ledger.until(observation.round)),
        defense=plan.defense,
    )
    return Exposure(leak, targets.rows)


@dataclass(frozen=True)
class _Targets:
    rows: Tensor
    smashed: Tensor
    gradients: Tensor | None = None
    labels: Tensor | None = None
    head_gradients: Tensor | None = None
    returned: tuple[tuple[int, State], ...] = ()


def _inference(plan: Plan, page: Page, data: FederationData) -> _Targets:
    """One pass of the defended client segment over the targets, each answered by the client that holds it."""
    rows: list[Tensor] = []
    smashed: list[Tensor] = []
    for client, (holding, own) in enumerate(zip(data.holdings, data.visitors, strict=True)):
        if not len(own):
            continue
        segment = _client(plan, page.client)
        deployed = _deployed(plan, segment, holding, client)
        smashed.append(_answered(plan, segment, deployed, own.pixels, plan.seeds("inference", page.round, client)))
        rows.append(own.rows)
    # Ascending rows: the order tells nothing about which client a target belongs to.
    joined = torch.cat(rows)
    order = joined.argsort()
    return _Targets(joined[order], torch.cat(smashed)[order.to(plan.device)])


def _training(plan: Plan, page: Page) -> _Targets:
    """The watched rows as they crossed the cut in this round."""
    if not page.exchanges:
        remedy = "attack another round, or raise protocol.participation or targets.count"
        raise EngineError("no target crossed the cut", at=f"round {page.round}", remedy=remedy)
    rows = torch.cat([exchange.rows for exchange in page.exchanges])
    order = rows.argsort()
    smashed = torch.cat([exchange.smashed for exchange in page.exchanges])[order]
    gradients = torch.cat([exchange.gradient for exchange in page.exchanges])[order]
    labels = [exchange.labels for exchange in page.exchanges if exchange.labels is not None]
    leaving = [exchange.head_gradient for exchange in page.exchanges if exchange.head_gradient is not None]
    device = plan.device
    return _Targets(
        rows[order],
        smashed.to(device),
        gradients.to(device),
        torch.cat(labels)[order].to(device) if labels else None,
        torch.cat(leaving)[order].to(device) if leaving else None,
        page.returned,
    )


def _query(plan: Plan, state: State, data: FederationData, defended: bool) -> Query:
    """What a client answers to images of the adversary's own; the first client stands for all of them."""
    segment = _client(plan, state)
    deployed = _deployed(plan, segment, data.holdings[0], client=0) if defended else _OPEN

    def query(images: Tensor, rng: Generator) -> Tensor:
        return _answered(plan, segment, deployed, images, rng)

    return query


def _deployed(plan: Plan, segment: Segment, holding: Holding, client: int) -> Deployed:
    with plan.seeds.fork("deploy", client):
        return plan.defense.deploy(segment, holding, plan.seeds("deploy", client))


_OPEN = Deployed(release=lambda smashed, _: smashed, answer=lambda _, confidences: confidences)


@torch.no_grad()
def _answered(plan: Plan, segment: Segment, deployed: Deployed, images: Tensor, rng: Generator) -> Tensor:
    answers: list[Tensor] = []
    for part in images.split(_AT_ONCE):
        smashed = segment(part.to(plan.device, plan.dtype))
        answers.append(deployed.release(smashed, rng))
    return torch.cat(answers)


def _client(plan: Plan, state: State) -> Segment:
    segments = plan.segments()
    plan.prepare(segments.home, state, training=False)
    return segments.client


def _server(plan: Plan, state: State) -> Segment:
    return plan.prepare(plan.segments().server, state, training=False)
