"""The image that makes what crossed most likely, by gradient descent through the client (regularised maximum
likelihood: He, Zhang and Lee, "Model inversion attacks against collaborative inference", ACSAC 2019; white-box)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import cos, pi
from typing import Annotated, ClassVar

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn

from fedsplit.attacks.base import Attack, Check
from fedsplit.defenses.base import Defense
from fedsplit.progress import track
from fedsplit.records.leak import Asset, Leak
from fedsplit.records.reconstruction import Evidence, Reconstruction

_WATCHED = 20
_SMALLEST_STEP = 0.01
_FAINT = 1e-3


class Likelihood(Attack):
    """Moves images, all targets at once, until the client makes of them what crossed.

    For each target the least of |E A(f(x)) - z|^2 / var(z) + weight * TV(x) over x in [0, 1]: f is the client segment,
    A the defense's release where its parameters are known (the expectation over its randomness is a mean of draws,
    fresh at every step, and a member that passes no gradient is taken for the identity), TV the total variation. It
    starts at the mean auxiliary image. The weight, and how far to go from the mean image to the image found, are chosen
    by validation images. Each image is by itself: it does not matter which others are rebuilt with it.
    """

    needs: ClassVar[frozenset[Asset]] = frozenset({Asset.SMASHED, Asset.CLIENT_WEIGHTS})
    controls: ClassVar[frozenset[Check]] = frozenset({"loss_fell"})

    steps: PositiveInt = 400
    """Of Adam with the maximum of past second moments, its rate falling along a half cosine."""
    learning_rate: PositiveFloat = 0.1
    """At the first step, in units of intensity."""
    smoothness: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1, max_length=20)] = (
        0,
        0.01,
        0.03,
        0.1,
        0.3,
        1,
    )
    """Weights of the total variation that are tried."""
    judges: PositiveInt = 32
    """Validation images, at most, on which they are."""
    draws: PositiveInt = 2
    """Releases at each step whose mean stands for the expected one, where the release is random."""
    batch_size: PositiveInt = 256
    """Images that are moved at once; how many does not matter to any of them, but for memory."""

    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        """`rng` draws the judges and the releases."""
        assert leak.smashed is not None and leak.client_weights is not None and leak.auxiliary_pairs is not None
        auxiliary, seen = leak.auxiliary, leak.auxiliary_pairs.validation_smashed
        mean = auxiliary.images.mean(dim=0)
        chosen = torch.randperm(len(seen), generator=rng)[: self.judges].to(seen.device)
        truth = auxiliary.validation_images[chosen]
        nothing, spread = _Release((), frozenset(), 1, rng), seen.var().clamp(min=torch.finfo(seen.dtype).tiny)
        open_search = _Search(self, leak.client_weights.broadcast, nothing, mean, spread)
        searches = [open_search]
        if isinstance(leak.defense, Defense) and (members := leak.defense.releasing(leak.phase)):
            # To match what a defense gives is a rougher landscape than to match what it was given: both are tried.
            searches.append(replace(open_search, release=_release(members, self.draws, seen[:1], rng)))
        trials = (trial for search in searches for trial in search.tried(seen[chosen], truth))
        best = min(trials, key=lambda trial: trial.error)
        moved = best.search.run(leak.smashed, torch.full((len(leak.smashed),), best.weight).to(mean))
        images = mean + best.gain * (moved.images - mean)
        return Reconstruction(images, Evidence(moved.losses, settings=best.words))


@dataclass(frozen=True)
class _Release:
    """The expected release of a defense. blind: members that pass no gradient."""

    members: Sequence[Defense]
    blind: frozenset[int]
    draws: int
    rng: Generator

    def __call__(self, smashed: Tensor) -> Tensor:
        return sum((self._drawn(smashed) for _ in range(self.draws - 1)), self._drawn(smashed)) / self.draws

    def _drawn(self, smashed: Tensor) -> Tensor:
        for number, member in enumerate(self.members):
            released = member.release(smashed, self.rng)
            smashed = smashed + (released - smashed).detach() if number in self.blind else released
        return smashed


def _release(members: Sequence[Defense], draws: int, example: Tensor, rng: Generator) -> _Release:
    """example: (1, *cut)."""
    blind = {number for number, member in enumerate(members) if not _passes(member, example, rng)}
    varies = any(not torch.equal(member.release(example, rng), member.release(example, rng)) for member in members)
    return _Release(members, frozenset(blind), draws if varies else 1, rng)


def _passes(member: Defense, example: Tensor, rng: Generator) -> bool:
    values = example.detach().clone().requires_grad_()
    released = member.release(values, rng).sum()
    if not released.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(released, values, allow_unused=True, materialize_grads=True)
    return bool(gradient.count_nonzero())


@dataclass(frozen=True)
class _Found:
    """images: (n, *image). losses: the mean over them, as they moved."""

    images: Tensor
    losses: tuple[float, ...]


@dataclass(frozen=True)
class _Search:
    """mean: (*image), where it starts. variance: of what crosses."""

    attack: Likelihood
    client: nn.Module
    release: _Release
    mean: Tensor
    variance: Tensor

    def tried(self, crossed: Tensor, truth: Tensor) -> Iterator["_Trial"]:
        """Every weight on images of which the truth is known, side by side. crossed: (n, *cut). truth: (n, *image)."""
        tries = self.attack.smoothness
        weights = torch.tensor(tries).to(truth).repeat_interleave(len(crossed))
        found = self.run(crossed.repeat(len(tries), *[1] * (crossed.dim() - 1)), weights).images
        for weight, images in zip(tries, found.chunk(len(tries)), strict=True):
            off, wanted = images - self.mean, truth - self.mean
            gain = float(((off * wanted).sum() / off.square().sum().clamp(min=1e-30)).clamp(0, 1))
            yield _Trial(self, weight, gain, float((gain * off - wanted).square().mean()))

    def run(self, crossed: Tensor, weights: Tensor) -> _Found:
        """crossed: (n, *cut). weights: (n,), of each image's total variation."""
        parts = [
            self._moved(*part)
            for part in zip(*(all_of.split(self.attack.batch_size) for all_of in (crossed, weights)), strict=True)
        ]
        shares = [len(part.images) / len(crossed) for part in parts]
        losses = zip(*(part.losses for part in parts), strict=True)
        told = tuple(sum(share * loss for share, loss in zip(shares, each, strict=True)) for each in losses)
        return _Found(torch.cat([part.images for part in parts]), told)

    def _moved(self, crossed: Tensor, weights: Tensor) -> _Found:
        # Convolutions of images of few channels are undone several times faster in this layout.
        images = self.mean.expand(len(crossed), *self.mean.shape).clone(memory_format=torch.channels_last)
        images.requires_grad_()
        steps, losses = self.attack.steps, list[float]()
        optimizer = torch.optim.Adam([images], lr=self.attack.learning_rate, amsgrad=True)
        for step in track(range(steps), "moving images", steps):
            errors = self._errors(images, crossed)
            (images.grad,) = torch.autograd.grad((errors + weights * total_variation(images)).sum(), images)
            if step % max(1, steps // _WATCHED) == 0 or step == steps - 1:
                losses.append(float(errors.detach().mean()))
            optimizer.param_groups[0]["lr"] = self.attack.learning_rate * (
                _SMALLEST_STEP + (1 - _SMALLEST_STEP) * (1 + cos(pi * step / steps)) / 2
            )
            optimizer.step()
            with torch.no_grad():
                images.clamp_(0, 1)
        return _Found(images.detach(), tuple(losses))

    def _errors(self, images: Tensor, crossed: Tensor) -> Tensor:
        return (self.release(self.client(images)) - crossed).square().flatten(1).mean(dim=1) / self.variance


def total_variation(images: Tensor) -> Tensor:
    """(n, channels, height, width) -> (n,): the mean length of the gradient over pixels, a little rounded at zero
    (Rudin, Osher and Fatemi, Physica D 1992)."""
    down = images.diff(dim=2)[..., :-1]
    across = images.diff(dim=3)[:, :, :-1]
    return (down.square() + across.square() + _FAINT**2).sqrt().flatten(1).mean(dim=1)


@dataclass(frozen=True)
class _Trial:
    """A weight, how much of what it gives is best believed, and the mean squared error of that where it was tried."""

    search: _Search
    weight: float
    gain: float
    error: float

    @property
    def words(self) -> str:
        """What was chosen."""
        release = self.search.release
        through = f"through the defense, draws {release.draws}" if release.members else "to what crossed as it is"
        return f"total variation {self.weight:g}, gain {self.gain:.2f}, {through}"
