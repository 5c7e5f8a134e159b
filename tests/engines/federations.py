"""A federation small enough to train in a second, with everything on that engines could disagree about."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import torch
from torch import Generator, Tensor

from fedsplit.defenses.base import Defense
from fedsplit.defenses.gaussian_noise import GaussianNoise
from fedsplit.engines.base import Engine
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.ledger import Recording
from fedsplit.federation.optimizer import Adam
from fedsplit.federation.plan import Plan, Precision, state_of
from fedsplit.federation.roles import FederationData
from fedsplit.federation.trained import Standing, Trained
from fedsplit.models.linear import Linear
from fedsplit.protocols.base import Protocol
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.records.images import Holding, Images
from fedsplit.training import Training

CLASSES = 3


MARKED = 2.0
"""A pixel that no image has, for defenses that act at one client alone."""


class Breaks(Defense):
    """Fails where it meets a marked image."""

    def after_step(self, segment, step, rng):
        if bool((step.images == MARKED).any()):
            raise ValueError("a plug-in\nfell over")


class Kills(Defense):
    """Ends its own process where it meets a marked image."""

    def after_step(self, segment, step, rng):
        if bool((step.images == MARKED).any()):
            os.kill(os.getpid(), signal.SIGKILL)


class KillsOnce(Defense):
    """Ends its own process where it meets a marked image, the first time ever."""

    flag: str
    """A file that says that it has happened."""

    def after_step(self, segment, step, rng):
        if bool((step.images == MARKED).any()) and not Path(self.flag).exists():
            Path(self.flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)


class NoisyCopies(Defense):
    """Adds made-up rows that depend on the client's own stream and on the model, and noise to what is released."""

    def augment(self, data, public, model, rng):
        noise = torch.rand(data.pixels[:5].shape, generator=rng) * float(model(public.pixels[:1]).detach().mean())
        made = Holding(
            noise, data.labels[:5], torch.full((5,), 0.25), torch.full((5,), -1), torch.zeros(5, dtype=torch.bool)
        )
        return Holding(*(torch.cat(pair) for pair in zip(vars(data).values(), vars(made).values(), strict=True)))

    def release(self, smashed: Tensor, rng: Generator) -> Tensor:
        return smashed + torch.randn(smashed.shape, generator=rng)


def images(rows: int, seed: int) -> Images:
    rng = Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (rows,), generator=rng)
    pixels = 0.5 * torch.rand((rows, 1, 8, 8), generator=rng) + labels.view(-1, 1, 1, 1) / (2 * CLASSES)
    return Images(pixels, labels, torch.arange(rows), ("a", "b", "c"))


def federation(clients: int = 3) -> FederationData:
    holdings: list[Holding] = []
    first = 0
    for client in range(clients):
        own = images(20 + 9 * client, seed=client)
        rows = torch.arange(first, first + len(own))
        holdings.append(Holding(own.pixels, own.labels, torch.ones(len(own)), rows, rows % 4 == 0))
        first += len(own)
    return FederationData(tuple(holdings), visitors=(), public=images(6, seed=98), test=images(40, seed=99))


def marked(data: FederationData, client: int) -> FederationData:
    """The same federation with one marked image at one client."""
    holdings = list(data.holdings)
    pixels = holdings[client].pixels.clone()
    pixels[3] = MARKED
    holdings[client] = replace(holdings[client], pixels=pixels)
    return replace(data, holdings=tuple(holdings))


def train(
    engine: Engine,
    cell: Path,
    data: FederationData,
    defense: Defense = GaussianNoise(std=0.3),  # noqa: B008  (frozen)
    protocol: Protocol = SplitFedV1(rounds=3, local_epochs=2, batch_size=8, participation=0.7),  # noqa: B008
    head: str | None = None,
    precision: Precision = "float32",
) -> Trained:
    plan = Plan(
        model=Linear(width=7),
        cut="rows",
        head=head,
        precision=precision,
        defense=defense,
        optimizer=Adam(state="keep"),
        shape=(1, 8, 8),
        classes=CLASSES,
        seed=5,
    )
    segments = plan.segments()
    start = Standing(0, state_of(segments.home.whole), state_of(segments.server))
    recording = Recording(training=(1, 3), inference=(3,))
    return engine.train(Training(protocol, plan, start, data, recording, Checkpoint(cell, "fingerprint")))
