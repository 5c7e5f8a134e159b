"""A federation that trains in a fraction of a second, and the same training written out by hand, without a cut."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from fedsplit.defenses.none import Undefended
from fedsplit.engines.inline import Inline
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.cohort import Task, Update
from fedsplit.federation.ledger import Page, Recording
from fedsplit.federation.messages import Opening
from fedsplit.federation.optimizer import StochasticGradientDescent
from fedsplit.federation.plan import Plan, state_of
from fedsplit.federation.roles import FederationData
from fedsplit.federation.trained import Standing, Trained
from fedsplit.models.linear import Linear
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.records.images import Holding, Images
from fedsplit.records.leak import Auxiliary
from fedsplit.training import Training

CLASSES = 3
SHAPE = (1, 8, 8)


def images(rows: int, seed: int) -> Images:
    """Noise over a bright band whose place is the label: a linear classifier can tell the classes apart."""
    rng = Generator().manual_seed(seed)
    labels = torch.arange(rows) % CLASSES
    pixels = 0.3 * torch.rand((rows, *SHAPE), generator=rng)
    for row, label in enumerate(labels.tolist()):
        pixels[row, 0, 2 * label : 2 * label + 2] += 0.6
    return Images(pixels, labels, torch.arange(rows), ("a", "b", "c"))


def holding(own: Images, first: int = 0, watched: int = 0) -> Holding:
    """All images of `own` as rows from `first` on, the first `watched` of them watched."""
    places = torch.arange(len(own))
    return Holding(own.pixels, own.labels, torch.ones(len(own)), first + places, places < watched)


def federation(sizes: Sequence[int] = (14, 9, 12), watched: int = 4) -> FederationData:
    """Clients of these sizes; the watched rows are also those that visit at inference."""
    holdings: list[Holding] = []
    for client, size in enumerate(sizes):
        holdings.append(holding(images(size, seed=client), 100 * client, watched))
    visitors = tuple(own.at(own.watched.nonzero().flatten()) for own in holdings)
    return FederationData(tuple(holdings), visitors, public=images(6, seed=98), test=images(60, seed=99))


def auxiliary(seed: int = 97) -> Auxiliary:
    drawn, kept = images(8, seed), images(5, seed + 1000)
    return Auxiliary(drawn.pixels, drawn.labels, kept.pixels, kept.labels)


def plan_of(**changes: Any) -> Plan:
    settings = {
        "model": Linear(width=5),
        "cut": "rows",
        "defense": Undefended(),
        "optimizer": StochasticGradientDescent(learning_rate=0.1),
        "shape": SHAPE,
        "classes": CLASSES,
        "seed": 5,
    }
    return Plan(**(settings | changes))


def started(plan: Plan, public: Images) -> tuple[Plan, Standing]:
    """Before round 1, the defense's warm start included."""
    segments = plan.segments()
    frozen = plan.defense.warm_start(segments.whole, public, plan.seeds("warm_start"))
    plan = plan.model_copy(update={"frozen": frozen})
    return plan, Standing(0, state_of(segments.home.whole), state_of(segments.server))


def train(
    cell: Path,
    plan: Plan,
    data: FederationData,
    protocol: SplitFedV1 = SplitFedV1(rounds=2, batch_size=6),  # noqa: B008  (frozen)
    recording: Recording = Recording(),  # noqa: B008
    checkpoint: Checkpoint | None = None,
) -> Trained:
    plan, start = started(plan, data.public)
    return Inline().train(
        Training(protocol, plan, start, data, recording, checkpoint or Checkpoint(cell, "this federation"))
    )


class StopsAfter(Checkpoint):
    """Is interrupted once a round is on disk."""

    def __init__(self, cell: Path, fingerprint: str, last: int) -> None:
        super().__init__(cell, fingerprint)
        self.last = last

    def save(self, standing: Standing, page: Page | None) -> None:
        super().save(standing, page)
        if standing.round == self.last:
            raise KeyboardInterrupt


def local_round(
    plan: Plan, protocol: SplitFedV1, task: Task, own: Holding, recording: Recording | None = None
) -> Update:
    """One local round of one client, on fresh segments."""
    return protocol.local_round(plan, plan.segments(), task, own, recording or Recording())


def first_task(plan: Plan, client: int = 0, number: int = 1) -> Task:
    segments = plan.segments()
    return Task(Opening(number, client, state_of(segments.home.whole), {}), state_of(segments.server), {})


def whole_model(plan: Plan) -> nn.Sequential:
    """The model as it was before it was cut, with the same initial weights and the same names."""
    with plan.seeds.fork("model"):
        return nn.Sequential(plan.model.blocks(plan.shape, plan.classes)).to(plan.dtype)


def batches(plan: Plan, size: int, rows: int, name: tuple[int, ...]) -> Iterator[Tensor]:
    """Positions of one epoch's batches, each of `size`, but that a single last row joins the batch before it."""
    parts = list(torch.randperm(rows, generator=plan.seeds("batches", *name)).split(size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return iter(parts)


def train_whole(
    plan: Plan,
    protocol: SplitFedV1,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    own: Holding,
    number: int,
    client: int,
) -> list[float]:
    """One local round of ordinary training, in place; returns the losses."""
    losses: list[float] = []
    model.train()
    with plan.seeds.fork("forward", number, client):
        for epoch in range(protocol.local_epochs):
            for place in batches(plan, protocol.batch_size, len(own), (number, client, epoch)):
                logits = model(own.pixels[place].to(plan.dtype))
                loss = functional.cross_entropy(logits, own.labels[place])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
    return losses


def joined(standing: Standing) -> dict[str, Tensor]:
    """Both segments' states under the names they have in the whole model; the first client's where each has its own."""
    return {**standing.deployed[0], **standing.server}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-10) -> None:
    """The same names, types and values."""
    assert found.keys() == expected.keys()
    torch.testing.assert_close(dict(found), dict(expected), rtol=tolerance, atol=tolerance)


def bits(value: object) -> object:
    """A value in which equality means equality of every bit."""
    if isinstance(value, Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes()
    if is_dataclass(value):
        return {field.name: bits(getattr(value, field.name)) for field in fields(value) if field.compare}
    if isinstance(value, dict):
        return {key: bits(part) for key, part in value.items()}
    if isinstance(value, tuple):
        return tuple(bits(part) for part in value)
    return value
