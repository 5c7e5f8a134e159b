"""The federations whose trainings are timed."""

import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from fedsplit.defenses.none import Undefended
from fedsplit.engines.base import Engine
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.ledger import Recording
from fedsplit.federation.optimizer import Adam
from fedsplit.federation.plan import Plan, state_of
from fedsplit.federation.roles import FederationData
from fedsplit.federation.trained import Standing, Trained
from fedsplit.models.base import Model
from fedsplit.models.lenet import LeNet
from fedsplit.models.linear import Linear
from fedsplit.models.resnet18 import ResNet18
from fedsplit.protocols.base import Protocol
from fedsplit.records.images import Holding, Images, Shape
from fedsplit.training import Training

CLASSES = 10
LEARNING_RATE = 0.001
Rows = tuple[Tensor, Tensor]
"""Images and labels of one client."""


@dataclass(frozen=True)
class Problem:
    """A federation on random images. rows: of each client."""

    name: str
    model: Model
    cut: str
    shape: Shape
    batch: int
    rows: int
    rounds: int
    clients: int = 10

    @cached_property
    def plan(self) -> Plan:
        """What all parties agree on."""
        return Plan(
            model=self.model,
            cut=self.cut,
            defense=Undefended(),
            optimizer=Adam(learning_rate=LEARNING_RATE),
            shape=self.shape,
            classes=CLASSES,
            seed=0,
        )

    @cached_property
    def data(self) -> FederationData:
        """Every client's rows; one batch of test images, as evaluation is no part of what is compared."""
        test = self.images(self.batch)
        holdings: list[Holding] = []
        for _ in range(self.clients):
            own = self.images(self.rows)
            rows = torch.arange(self.rows)
            holdings.append(Holding(own.pixels, own.labels, torch.ones(self.rows), rows, rows < 0))
        return FederationData(tuple(holdings), visitors=(), public=test, test=test)

    @property
    def steps(self) -> int:
        """How often a client crosses the cut in a training."""
        return self.rounds * self.clients * self.rows // self.batch

    @property
    def start(self) -> Standing:
        """Before the first round."""
        segments = self.plan.segments()
        return Standing(0, state_of(segments.home.whole), state_of(segments.server))

    def images(self, count: int) -> Images:
        """Random ones."""
        names = tuple(str(label) for label in range(CLASSES))
        return Images(torch.rand(count, *self.shape), torch.randint(CLASSES, (count,)), torch.arange(count), names)

    def trained(self, engine: Engine, kind: type[Protocol], **settings: object) -> Trained:
        """A whole training, into a folder that is thrown away."""
        protocol = kind.model_validate({"rounds": self.rounds, "batch_size": self.batch, **settings})
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Checkpoint(Path(folder), "benchmark")
            trained = engine.train(Training(protocol, self.plan, self.start, self.data, Recording(), checkpoint))
        assert trained.standing.steps == self.steps
        return trained


LENET = Problem("lenet 28x28", LeNet(), "pool1", (1, 28, 28), batch=64, rows=512, rounds=3)
RESNET = Problem("resnet18 64x64", ResNet18(), "layer1_block2", (3, 64, 64), batch=16, rows=64, rounds=1)
LINEAR = Problem("linear 8x8", Linear(width=32), "rows", (1, 8, 8), batch=16, rows=128, rounds=10)
LONG_STEPS = replace(LENET, name="lenet, long steps", batch=128, rounds=6)
SHORT_STEPS = replace(LINEAR, name="linear, short steps", rounds=20)
"""Of so many rounds that what a training costs once, whatever its length, is little of it."""


def in_miniature(problem: Problem) -> Problem:
    """The same with as little as shows that it runs."""
    return replace(problem, clients=2, batch=4, rows=8, rounds=2)
