"""How a generator and its critic learn from each other (Goodfellow et al., "Generative adversarial nets", NeurIPS
2014): the loss that does not saturate, the critic's gradient at real images penalised now and then (Mescheder, Geiger
and Nowozin, ICML 2018; lazily: Karras et al., CVPR 2020), and the mean of the generator's weights kept."""

import copy
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from fedsplit.errors import EngineError
from fedsplit.layers.sample_quality import SampleQuality
from fedsplit.layers.synthesizer import Progress, Synthesizer, Tell
from fedsplit.progress import track
from fedsplit.seeding import Seeds

_HELD_OUT_SHARE = 0.1
_MOST_HELD_OUT = 500
_LEAST_HELD_OUT = 20
_SHIFT = 1 / 8
_HOLE = 1 / 3
_ATTEMPTS = 3
_SLOWER = 1 / 3


@dataclass(frozen=True)
class AdversarialTraining:
    """steps: of the generator, at most. critic_steps: of the critic before each of them. rate, critic_rate, momenta: of
    Adam. penalty: on half the squared gradient of the critic at real images, asked for at every penalty_every-th
    of its steps; 0: there is none. averaging: what a step keeps of the mean weights; 0: the last weights count.
    disguised: the critic sees images shifted and partly covered. evaluations: how often the quality is looked at, where
    it is; patience: how many of these may pass without a better one; None: all of them, and quality plays no part.

    A training that diverges is begun again at a third of the rates, twice at most. Either its losses are no longer
    finite, or patience runs out over samples farther from held-out images than one of these over and over would be: a
    critic that is never wrong teaches nothing any more, and the images are all black, say.
    """

    steps: int
    batch_size: int
    rate: float
    critic_rate: float
    momenta: tuple[float, float]
    critic_steps: int = 1
    penalty: float = 0.0
    penalty_every: int = 16
    averaging: float = 0.0
    disguised: bool = False
    evaluations: int = 20
    patience: int | None = None

    def run(
        self,
        synthesizer: Synthesizer,
        critic: nn.Module,
        images: Tensor,
        labels: Tensor | None,
        seeds: Seeds,
        tell: Tell,
    ) -> Synthesizer:
        """Trains both in place, and returns the generator as it was best, in evaluation mode and without gradients.

        critic: (images, labels) -> (n,) logits of being real. labels: (n,), None where nobody looks at them.
        """
        begun = copy.deepcopy((synthesizer.state_dict(), critic.state_dict()))
        found: list[_Outcome] = []
        for attempt in range(_ATTEMPTS):
            synthesizer.load_state_dict(begun[0])
            critic.load_state_dict(begun[1])
            slower = replace(self, rate=self.rate * _SLOWER**attempt, critic_rate=self.critic_rate * _SLOWER**attempt)
            with suppress(FloatingPointError):
                found.append(slower._once(synthesizer, critic, images, labels, seeds, tell))
                if not found[-1].diverged:
                    break
        if not found:
            remedy = "lower the generator's rate, or raise its penalty"
            raise EngineError("the losses are no longer finite", at="training a generator", remedy=remedy)
        return min(found, key=lambda outcome: outcome.distance).best.finished(labels, seeds("styles"))

    def _once(
        self,
        synthesizer: Synthesizer,
        critic: nn.Module,
        images: Tensor,
        labels: Tensor | None,
        seeds: Seeds,
        tell: Tell,
    ) -> "_Outcome":
        """One attempt. FloatingPointError where the losses are no longer finite."""
        learned, held_out = self._parted(len(images), seeds("held out"))
        with seeds.fork("quality"):
            quality = SampleQuality(images[held_out]) if len(held_out) else None
        rows, latents = seeds("rows"), seeds("latents")
        match = _Match(self, synthesizer, critic, images, labels, learned.to(images.device), rows, latents)
        best, least, waited = match.averaged, math.inf, 0
        every = max(1, self.steps // self.evaluations)
        for step in track(range(1, self.steps + 1), "training a generator", self.steps):
            # Drawn by name at each step, so that whoever is told in between changes nothing by drawing.
            with seeds.fork("step", step):
                match.play(step)
            if step % every and step != self.steps:
                continue
            distance = None if quality is None else quality.distance(_samples(match.averaged, held_out, labels, seeds))
            report = Progress(step, self.steps, self.rate, *match.losses(), distance)
            if not math.isfinite(report.loss + report.critic_loss):
                raise FloatingPointError
            tell(report)
            if quality is None or distance is None:
                continue
            if distance < least:
                best, least, waited = copy.deepcopy(match.averaged), distance, 0
            else:
                waited += 1
                if waited == self.patience:
                    return _Outcome(best, least, diverged=not distance < quality.of_one_image())
        return _Outcome(best, least, diverged=False)

    def _parted(self, count: int, rng: Generator) -> tuple[Tensor, Tensor]:
        """Which to learn from, and which to judge by; none of these where nobody asks, or they would be too few."""
        order = torch.randperm(count, generator=rng)
        held = min(_MOST_HELD_OUT, int(_HELD_OUT_SHARE * count))
        if self.patience is None or held < _LEAST_HELD_OUT:
            held = 0
        return order[held:], order[:held]


@dataclass(frozen=True)
class _Outcome:
    """Of an attempt. distance: of samples of the best weights from held-out images; infinite where none were."""

    best: Synthesizer
    distance: float
    diverged: bool


class _Match:
    """The two, their optimisers, and the mean of the generator's weights."""

    def __init__(
        self,
        how: AdversarialTraining,
        synthesizer: Synthesizer,
        critic: nn.Module,
        images: Tensor,
        labels: Tensor | None,
        learned: Tensor,
        rows: Generator,
        latents: Generator,
    ) -> None:
        self._how, self._images, self._labels, self._learned = how, images, labels, learned
        self._rows, self._latents = rows, latents
        self._synthesizer, self._critic = synthesizer.train(), critic.train()
        self.averaged = copy.deepcopy(synthesizer).eval() if how.averaging else synthesizer
        parts = (synthesizer, how.rate), (critic, how.critic_rate)
        self._optimizer, self._critic_optimizer = (
            torch.optim.Adam(part.parameters(), lr=rate, betas=how.momenta, fused=True) for part, rate in parts
        )
        self._losses: list[tuple[float, float]] = []
        self._critic_step = 0

    def play(self, step: int) -> None:
        """The critic's steps, and then one of the generator's."""
        self._synthesizer.train()
        loss = math.nan
        for _ in range(self._how.critic_steps):
            loss = self._criticise()
        self._losses.append((self._synthesize(), loss))
        if self._how.averaging:
            # The first weights are forgotten sooner.
            _draw_near(self.averaged, self._synthesizer, min(self._how.averaging, (1 + step) / (10 + step)))

    def losses(self) -> tuple[float, float]:
        """Of the generator and of the critic, their means since this was last asked."""
        mine, critics = (math.fsum(each) / len(each) for each in zip(*self._losses, strict=True))
        self._losses.clear()
        return mine, critics

    def _criticise(self) -> float:
        images, labels = self._batch()
        with torch.no_grad():
            samples = self._synthesizer(self._drawn(len(images)), labels)
        penalised = bool(self._how.penalty) and self._critic_step % self._how.penalty_every == 0
        images = images.requires_grad_(penalised)
        real = self._judged(images, labels)
        loss = F.softplus(-real).mean() + F.softplus(self._judged(samples, labels)).mean()
        full = loss
        if penalised:
            (gradient,) = torch.autograd.grad(real.sum(), images, create_graph=True)
            squares = gradient.square().flatten(1).sum(dim=1).mean()
            full = loss + self._how.penalty / 2 * self._how.penalty_every * squares
        self._critic_optimizer.zero_grad()
        full.backward()
        self._critic_optimizer.step()
        self._critic_step += 1
        return loss.item()

    def _synthesize(self) -> float:
        _, labels = self._batch()
        self._critic.requires_grad_(requires_grad=False)
        loss = F.softplus(-self._judged(self._synthesizer(self._drawn(self._how.batch_size), labels), labels)).mean()
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self._critic.requires_grad_(requires_grad=True)
        return loss.item()

    def _judged(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return self._critic(_disguised(images) if self._how.disguised else images, labels)

    def _batch(self) -> tuple[Tensor, Tensor | None]:
        drawn = torch.randint(len(self._learned), (self._how.batch_size,), generator=self._rows)
        rows = self._learned[drawn.to(self._learned.device)]
        return self._images[rows], None if self._labels is None else self._labels[rows]

    def _drawn(self, count: int) -> Tensor:
        return self._synthesizer.draw(count, self._latents)


def _draw_near(averaged: nn.Module, trained: nn.Module, kept: float) -> None:
    with torch.no_grad():
        for mean, value in zip(_values(averaged), _values(trained), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - kept)
            else:
                mean.copy_(value)


def _values(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _disguised(images: Tensor) -> Tensor:
    """Each image moved by up to an eighth of its side and with a square hole, differentiably: a critic cannot learn few
    images by heart then (Zhao, Liu, Lin, Zhu and Han, NeurIPS 2020). Drawn from torch's global generator."""
    count, _, height, width = images.shape
    down, across = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    margin = max(1, round(_SHIFT * max(height, width)))
    padded = F.pad(images, (margin,) * 4)
    shifts = torch.randint(2 * margin + 1, (2, count, 1), device=images.device)
    rows, columns = shifts[0] + down, shifts[1] + across
    moved = padded[torch.arange(count, device=images.device)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    centres = torch.rand(2, count, 1, device=images.device)
    near_rows = (down - centres[0] * height).abs() < _HOLE * height / 2
    near_columns = (across - centres[1] * width).abs() < _HOLE * width / 2
    hole = near_rows[:, None, :, None] & near_columns[:, None, None, :]
    return moved.permute(0, 3, 1, 2) * ~hole


def _samples(synthesizer: Synthesizer, held_out: Tensor, labels: Tensor | None, seeds: Seeds) -> Tensor:
    """As many as were held out, with their labels, and the same latents each time: only the weights differ."""
    own = None if labels is None else labels[held_out]
    return synthesizer.eval().sample(len(held_out), seeds("judged"), own)
