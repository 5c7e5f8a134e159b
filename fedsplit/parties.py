"""Who holds what in all cells of one seed, before anything is trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsplit.auxiliary import AuxiliaryImages
from fedsplit.datasets.base import Dataset
from fedsplit.errors import DataError
from fedsplit.federation.roles import FederationData
from fedsplit.layers.evaluator import Evaluator, train_evaluator
from fedsplit.numerics.threads import threaded
from fedsplit.partition import Drawn
from fedsplit.records.images import Holding, Images
from fedsplit.records.leak import Auxiliary
from fedsplit.scenario import Scenario
from fedsplit.seeding import Seeds


@dataclass(frozen=True)
class Parties:
    """The clients' rows, the adversaries' images, and the judge. auxiliary: of every one, and of the ideal."""

    images: Images
    data: FederationData
    auxiliary: Mapping[AuxiliaryImages, Auxiliary]
    evaluator: Evaluator | None


def gather(scenario: Scenario, images: Images, others: Sequence[Images], seeds: Seeds) -> Parties:
    """Draws the roles, deals the private rows to clients, chooses the targets, trains the evaluator.

    others: of the scenario's other data sets, in their order.
    """
    roles, owned = deal(scenario, images, seeds)
    targets = _targets(scenario, roles, seeds)
    visiting = (
        [rows[torch.isin(rows, targets)] for rows in owned]
        if scenario.targets.source == "private"
        else [targets[client :: len(owned)] for client in range(len(owned))]
    )
    data = FederationData(
        tuple(_holding(images, rows, targets) for rows in owned),
        tuple(_holding(images, rows, targets) for rows in visiting),
        publish(scenario, images, others, roles, seeds),
        images.at(roles.test),
    )
    evaluator = None
    if any(metric.evaluated for metric in scenario.metrics):
        with threaded(scenario.threads):
            evaluator = train_evaluator(images.at(roles.evaluation), seeds.child("evaluator"))
    own = equip(scenario, images, others, roles, seeds)
    return Parties(images, data, {kind: _auxiliary(scenario, *parts) for kind, parts in own.items()}, evaluator)


def deal(scenario: Scenario, images: Images, seeds: Seeds) -> tuple[Drawn, tuple[Tensor, ...]]:
    """The rows of every role, and of every client. Raises DataError where there are too few."""
    roles = scenario.roles.draw(images, seeds("roles"))
    private, clients = images.at(roles.private), scenario.partition.clients
    if clients > len(private):
        remedy = "use fewer clients or more images"
        raise DataError(
            f"are more than the {len(private)} private rows", at="partition.clients", value=clients, remedy=remedy
        )
    minimum = min(scenario.protocol.batch_size, len(private) // (2 * clients))
    places = scenario.partition.owners(private.labels, max(1, minimum), seeds("partition"))
    return roles, tuple(roles.private[place] for place in places)


def equip(
    scenario: Scenario, images: Images, others: Sequence[Images], roles: Drawn, seeds: Seeds
) -> dict[AuxiliaryImages, tuple[Images, Images]]:
    """What each adversary, and the ideal one, learns from, and stops and chooses by. Raises DataError where there is
    too little of it."""
    elsewhere = _elsewhere(scenario, others)
    learned, validation = images.at(roles.auxiliary), images.at(roles.validation)
    return {
        own: own.choose(
            learned,
            validation,
            images,
            elsewhere.get(own.dataset),
            seeds("auxiliary", own.title),
        )
        for own in (AuxiliaryImages(), *(threat.auxiliary for threat in scenario.threats))
    }


def publish(scenario: Scenario, images: Images, others: Sequence[Images], roles: Drawn, seeds: Seeds) -> Images:
    """What everybody may see. Raises DataError where another data set has nothing of its own."""
    public = scenario.public
    other = _elsewhere(scenario, others).get(public.dataset)
    return public.choose(images.at(roles.public), images, other, seeds("public"))


def _elsewhere(scenario: Scenario, others: Sequence[Images]) -> Mapping[Dataset | None, Images]:
    return dict(zip(scenario.others, others, strict=True))


def _targets(scenario: Scenario, roles: Drawn, seeds: Seeds) -> Tensor:
    pool = roles.private if scenario.targets.source == "private" else roles.test
    wanted = len(pool) if scenario.targets.count == "all" else scenario.targets.count
    return pool[torch.randperm(len(pool), generator=seeds("targets"))[:wanted]].sort().values


def _holding(images: Images, rows: Tensor, targets: Tensor) -> Holding:
    own = images.at(rows)
    return Holding(own.pixels, own.labels, torch.ones(len(rows)), rows, torch.isin(rows, targets))


def _auxiliary(scenario: Scenario, learned: Images, validation: Images) -> Auxiliary:
    # Copies on the attack's device: an adversary's tensors share no storage with anybody else's.
    def own(pixels: Tensor) -> Tensor:
        return pixels.to(scenario.device, scenario.dtype, copy=True)

    return Auxiliary(
        own(learned.pixels),
        learned.labels.to(scenario.device, copy=True),
        own(validation.pixels),
        validation.labels.to(scenario.device, copy=True),
    )
