"""How a decoder learns to undo a client: a few learning rates are tried, the best is trained, validation images choose
when to stop (after He, Zhang and Lee, "Model inversion attacks against collaborative inference", ACSAC 2019)."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from fedsplit.layers.critic import Critic
from fedsplit.layers.decoder import Decoder
from fedsplit.layers.remainder import Remainder, remainder
from fedsplit.layers.site_map import SiteMap, fit_site_map
from fedsplit.layers.sites import sites_of
from fedsplit.numerics.ridge import fit_ridge
from fedsplit.progress import track
from fedsplit.records.images import Shape
from fedsplit.seeding import Seeds

_CHUNK = 256
_CRITIC_RATE = 0.0005
_INPUTS = 192
"""How many features a site may have before the rate of its linear map is lowered: Adam moves every weight alike, so a
map of very many would lose at once the closed form that it starts from."""
_BELIEF_RATE = 0.1
"""Peak rate of the one number that says how much of the ridge is believed: it has all the way to go in few steps."""


@dataclass(frozen=True)
class Material:
    """What the decoder learns and is judged by: images (n, *image) and what is seen of them (n, *seen). release: shows
    images anew; None where that tells nothing new."""

    images: Tensor
    seen: Tensor
    validation_images: Tensor
    validation_seen: Tensor
    release: Callable[[Tensor, Generator], Tensor] | None = None


@dataclass(frozen=True)
class Run:
    """start: the decoder before training. rest: what it is told beside what is seen. rate: the chosen one. best: the
    decoder of the least validation loss, last: as left. losses: of the mean image, then of each epoch."""

    start: Decoder
    rest: Remainder | None
    rate: float
    best: Decoder
    best_epoch: int
    last: Decoder
    last_validation: float
    losses: tuple[float, ...]

    def decode(self, seen: Tensor) -> Tensor:
        """(n, *seen) -> (n, *image) by the best decoder, without a graph."""
        return decode(self.best, seen, self.rest)


@dataclass(frozen=True)
class DecoderTraining:
    """width: hidden units of the decoder at each row. depth: hidden layers of its local network. epochs: passes over
    the images with the chosen learning rate, trial_epochs for each of the rates that are tried (peak rates of Adam).
    adversarial: how far a critic moves the images, relative to the squared error; zero: there is none. What looks real
    is not what errs least, so with one the last weights are the best."""

    width: int
    depth: int
    epochs: int
    batch_size: int
    learning_rates: tuple[float, ...]
    trial_epochs: int
    adversarial: float = 0.0

    def run(self, material: Material, image: Shape, seeds: Seeds) -> Run:
        """From a closed-form linear map, or the mean image where that is better."""
        sites, rest = _start(material, image)
        start = self._decoder(sites, material, seeds)
        rate = self._rate(start, rest, material, seeds)
        if not self.adversarial:
            return _train(start, rest, material, rate, self.epochs, self.batch_size, seeds("train"))
        with seeds.fork("critic"):
            critic = Critic(image, _CRITIC_RATE, material.images)
        pulls = (critic, self.adversarial)
        found = _train(start, rest, material, rate, self.epochs, self.batch_size, seeds("train"), *pulls)
        return replace(found, best=found.last, best_epoch=self.epochs)

    def _decoder(self, start: SiteMap, material: Material, seeds: Seeds) -> Decoder:
        scale = material.seen.std()
        with seeds.fork("decoder"):
            return Decoder(start, torch.where(scale > 0, scale, 1.0), self.width, self.depth)

    def _rate(self, start: Decoder, rest: Remainder | None, material: Material, seeds: Seeds) -> float:
        if len(self.learning_rates) == 1:
            return self.learning_rates[0]
        # The same batches and noise for every rate, so that they differ in nothing else.
        runs = [
            _train(start, rest, material, rate, self.trial_epochs, self.batch_size, seeds("trial"))
            for rate in self.learning_rates
        ]
        losses = [run.last_validation for run in runs]
        return self.learning_rates[losses.index(min(losses))]


def decode(decoder: Decoder, seen: Tensor, rest: Remainder | None = None) -> Tensor:
    """(n, *seen) -> (n, *image), without a graph. rest: what is added before the decoder's last layers, if anything."""
    with torch.no_grad():
        return torch.cat([decoder(some, rest.predict(some) if rest else None) for some in seen.split(_CHUNK)])


def _start(material: Material, image: Shape) -> tuple[SiteMap, Remainder | None]:
    """The map that all sites share, or the mean image where that is nearer to validation images; and, where they are
    nearer still to a ridge from everything to everything, by more than a standard error, what that knows beyond. But
    not where images are released anew: of the noise a ridge knows one draw, and training sees as many as it likes."""
    seen, images = material.seen, material.images
    shared = fit_site_map(seen, images, sites_of(tuple(seen.shape[1:]), image))
    silent = replace(shared, weight=torch.zeros_like(shared.weight))
    judged, truth = material.validation_seen, material.validation_images
    start = min(shared, silent, key=lambda one: F.mse_loss(one.predict(judged), truth).item())
    if start.sites.count == 1 or material.release is not None:
        return start, None
    ridge = fit_ridge(seen.flatten(1), images.flatten(1))
    guesses = start.predict(judged), ridge.predict(judged.flatten(1)).view_as(truth)
    behind, ahead = ((guess - truth).square().flatten(1).mean(dim=1) for guess in guesses)
    gain = behind - ahead
    clear = float(gain.mean()) > float(gain.std(correction=0)) / len(gain) ** 0.5
    return start, remainder(ridge, start, seen, images) if clear else None


def _train(
    start: Decoder,
    rest: Remainder | None,
    material: Material,
    rate: float,
    epochs: int,
    batch_size: int,
    rng: Generator,
    critic: Critic | None = None,
    adversarial: float = 0.0,
) -> Run:
    decoder, count = copy.deepcopy(start), len(material.images)
    peaks = _peak_rates(decoder, rate)
    groups = [{"params": [own], "lr": peak} for own, peak in zip(decoder.parameters(), peaks, strict=True)]
    optimizer = torch.optim.Adam(groups, fused=True)
    steps = epochs * -(-count // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=steps, pct_start=0.15)
    losses = [F.mse_loss(material.images.mean(dim=0, keepdim=True).expand_as(material.images), material.images).item()]
    best, best_epoch, best_loss = start, 0, _validation_loss(start, rest, material)
    loss = best_loss
    for epoch in track(range(1, epochs + 1), "training a decoder", epochs):
        total = torch.zeros((), dtype=torch.float64, device=material.images.device)
        for rows in torch.randperm(count, generator=rng).to(material.images.device).split(batch_size):
            images, seen = material.images[rows], material.seen[rows]
            if material.release is not None:
                seen = material.release(images, rng).to(seen)
            rebuilt = decoder(seen, None if rest is None else rest.known[rows])
            step_loss = F.mse_loss(rebuilt, images)
            optimizer.zero_grad()
            if critic is None:
                step_loss.backward()
            else:
                rebuilt.backward(_pulled(rebuilt, images, critic, adversarial))
                critic.learn(images, rebuilt)
            optimizer.step()
            schedule.step()
            total += step_loss.detach() * len(rows)
        losses.append(total.item() / count)
        loss = _validation_loss(decoder, rest, material)
        if loss < best_loss:
            best, best_epoch, best_loss = copy.deepcopy(decoder), epoch, loss
    return Run(start, rest, rate, best, best_epoch, decoder, loss, tuple(losses))


def _peak_rates(decoder: Decoder, rate: float) -> list[float]:
    """Of its parameters, in order."""
    slower = rate * min(1.0, _INPUTS / decoder.sites.features)
    special = {id(decoder.linear.weight): slower, id(decoder.belief): _BELIEF_RATE}
    return [special.get(id(parameter), rate) for parameter in decoder.parameters()]


def _pulled(rebuilt: Tensor, images: Tensor, critic: Critic, adversarial: float) -> Tensor:
    """The gradient at the rebuilt images of both losses, the critic's in a fixed proportion to the squared error's, so
    that its weight means the same whatever the images and however far the training is."""
    towards = 2 * (rebuilt.detach() - images) / images.numel()
    pull = critic.pull(rebuilt)
    return towards + adversarial * towards.norm() / pull.norm().clamp(min=torch.finfo(pull.dtype).tiny) * pull


def _validation_loss(decoder: Decoder, rest: Remainder | None, material: Material) -> float:
    loss = F.mse_loss(decode(decoder, material.validation_seen, rest), material.validation_images).item()
    # A rate that diverged to no number must compare as the worst.
    return loss if math.isfinite(loss) else math.inf
