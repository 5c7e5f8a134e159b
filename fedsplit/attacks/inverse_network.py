"""A decoder trained on images of the attacker's own, passed through the client (He, Zhang and Lee, "Model inversion
attacks against collaborative inference", ACSAC 2019; black-box, with auxiliary images of a similar distribution)."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Generator, Tensor
from torch.nn import functional as F

from fedsplit.attacks.base import Attack, Check, ask, release_varies
from fedsplit.layers.decoder import Decoder
from fedsplit.layers.site_map import SiteMap, fit_site_map
from fedsplit.layers.sites import sites_of
from fedsplit.numerics.fingerprint import fingerprint
from fedsplit.progress import track
from fedsplit.records.images import Shape
from fedsplit.records.leak import Asset, Leak
from fedsplit.records.reconstruction import Evidence, Reconstruction
from fedsplit.seeding import Seeds

_CHUNK = 256


class InverseNetwork(Attack):
    """Trains a decoder to undo the client, defense included, by the mean squared error of its images.

    Where the client can be queried and its release is random, every batch is released anew, so that the decoder learns
    the noise and not one draw of it. The same few learning rates are tried under every defense. The weights of the best
    validation loss are kept; those before training, a closed-form linear map or the mean image, count as epoch 0.
    """

    needs: ClassVar[frozenset[Asset]] = frozenset({Asset.SMASHED, Asset.AUXILIARY_PAIRS})
    controls: ClassVar[frozenset[Check]] = frozenset({"parameters_moved", "loss_fell"})

    width: PositiveInt = 192
    """Hidden units of the decoder at each row; other parts of it are in proportion."""
    depth: PositiveInt = 1
    """Hidden layers of the decoder's local network."""
    epochs: PositiveInt = 10
    """Passes over the auxiliary images with the chosen learning rate."""
    batch_size: PositiveInt = 32
    """Auxiliary images per step."""
    learning_rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1, max_length=20)] = (0.001, 0.003, 0.009)
    """Peak rates of Adam that are tried; the best by validation loss is chosen."""
    trial_epochs: PositiveInt = 1
    """Passes over the auxiliary images for each rate tried, each on a full schedule."""

    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        """What the decoder of the least validation loss makes of the targets."""
        assert leak.smashed is not None
        seeds = Seeds(int(torch.randint(2**62, (), generator=rng)))
        material = _material(leak, seeds)
        start = self._decoder(material, leak.image_shape, seeds)
        before = fingerprint(start)
        rate = self._rate(start, material, seeds)
        run = _train(start, material, rate, self.epochs, self.batch_size, seeds("train"))
        settings = (
            f"learning rate {rate:g}, weights of epoch {run.best_epoch} of {self.epochs}, sites {start.sites.name}, "
            f"{'fresh releases' if material.release is not None else 'one release'}"
        )
        evidence = Evidence(run.losses, before, fingerprint(run.last), settings)
        return Reconstruction(_decode(run.best, leak.smashed), evidence)

    def _decoder(self, material: "_Material", image: Shape, seeds: Seeds) -> Decoder:
        candidates = sites_of(tuple(material.smashed.shape[1:]), image)
        start = fit_site_map(material.smashed, material.images, candidates)
        silent = replace(start, weight=torch.zeros_like(start.weight))
        # On validation images a map that learned next to nothing may be worse than the mean image.
        start = min(start, silent, key=lambda fitted: _error(fitted, material))
        scale = material.smashed.std()
        with seeds.fork("decoder"):
            return Decoder(start, torch.where(scale > 0, scale, 1.0), self.width, self.depth)

    def _rate(self, start: Decoder, material: "_Material", seeds: Seeds) -> float:
        if len(self.learning_rates) == 1:
            return self.learning_rates[0]
        # The same batches and noise for every rate, so that they differ in nothing else.
        runs = [
            _train(start, material, rate, self.trial_epochs, self.batch_size, seeds("trial"))
            for rate in self.learning_rates
        ]
        losses = [run.last_validation for run in runs]
        return self.learning_rates[losses.index(min(losses))]


@dataclass(frozen=True)
class _Material:
    """What the decoder learns and is judged by. release: asks the client anew; None where that tells nothing new."""

    images: Tensor
    smashed: Tensor
    validation_images: Tensor
    validation_smashed: Tensor
    release: Callable[[Tensor, Generator], Tensor] | None


@dataclass(frozen=True)
class _Run:
    """losses: of the mean image, then of each epoch. best: the decoder of the least validation loss, last: as left."""

    best: Decoder
    best_epoch: int
    last: Decoder
    last_validation: float
    losses: tuple[float, ...]


def _material(leak: Leak, seeds: Seeds) -> _Material:
    assert leak.smashed is not None and leak.auxiliary_pairs is not None
    varies = release_varies(leak, seeds("probe"))
    images, pairs = leak.auxiliary, leak.auxiliary_pairs
    return _Material(
        images.images.to(leak.smashed),
        pairs.smashed.to(leak.smashed),
        images.validation_images.to(leak.smashed),
        pairs.validation_smashed.to(leak.smashed),
        (lambda some, rng: ask(leak, some, rng)) if varies else None,
    )


def _train(start: Decoder, material: _Material, rate: float, epochs: int, batch_size: int, rng: Generator) -> _Run:
    decoder, count = copy.deepcopy(start), len(material.images)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=rate)
    steps = epochs * -(-count // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.15)
    losses = [F.mse_loss(material.images.mean(dim=0, keepdim=True).expand_as(material.images), material.images).item()]
    best, best_epoch, best_loss = start, 0, _validation_loss(start, material)
    loss = best_loss
    for epoch in track(range(1, epochs + 1), "training the inverse network", epochs):
        total = torch.zeros((), dtype=torch.float64, device=material.images.device)
        for rows in torch.randperm(count, generator=rng).to(material.images.device).split(batch_size):
            images, smashed = material.images[rows], material.smashed[rows]
            if material.release is not None:
                smashed = material.release(images, rng).to(smashed)
            step_loss = F.mse_loss(decoder(smashed), images)
            optimizer.zero_grad()
            step_loss.backward()
            optimizer.step()
            schedule.step()
            total += step_loss.detach() * len(rows)
        losses.append(total.item() / count)
        loss = _validation_loss(decoder, material)
        if loss < best_loss:
            best, best_epoch, best_loss = copy.deepcopy(decoder), epoch, loss
    return _Run(best, best_epoch, decoder, loss, tuple(losses))


def _error(fitted: SiteMap, material: _Material) -> float:
    return F.mse_loss(fitted.predict(material.validation_smashed), material.validation_images).item()


def _validation_loss(decoder: Decoder, material: _Material) -> float:
    loss = F.mse_loss(_decode(decoder, material.validation_smashed), material.validation_images).item()
    # A rate that diverged to no number must compare as the worst.
    return loss if math.isfinite(loss) else math.inf


def _decode(decoder: Decoder, smashed: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([decoder(some) for some in smashed.split(_CHUNK)])
