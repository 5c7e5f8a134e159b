"""Clipped and noisy gradients (Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar, Zhang, Deep Learning with Differential
Privacy, CCS 2016), of the whole model or of the client segment alone."""

from collections.abc import Callable, Sequence
from math import sqrt
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Generator, Tensor, nn
from torch.func import functional_call

from fedsplit.defenses.base import Defense, Sampling
from fedsplit.errors import EngineError
from fedsplit.layers.gaussian_code import GaussianSample
from fedsplit.numerics.accountant import epsilon, has_accountant
from fedsplit.numerics.sample_gradients import Parameters, clipped_gradient
from fedsplit.records.step import ClientStep, Draws, Passage
from fedsplit.split import Segment, Segments

_SAME = 0.05
"""Relative distance between what samples give alone and in their batch. Rounding, of bfloat16 too, stays far below."""
_UNCOVERED = "noise on weights says nothing about what a smashed activation shows of the image that is sent"


class DpSgd(Defense):
    """No row adds more than `clip` to a step's gradient, and noise in proportion hides whether it did.

    Meant against whoever sees trained weights and asks which images they were trained on. It does not limit what one
    activation reveals about the image that is being sent: the cut is as open as without it.

    Both segments: a row adds at most clip / sqrt(2) to the sum of each, so at most clip to the two sums as one vector,
    to all of whose numbers noise of noise_multiplier x clip is added: one Gaussian mechanism of that noise_multiplier.
    """

    clip: PositiveFloat = 1.0
    """Largest norm of what one row adds to the sum of gradients, over all parameters that get noise together."""
    noise_multiplier: NonNegativeFloat = 1.1
    """Standard deviation of the noise on every parameter's sum over the batch, as a multiple of `clip`."""
    segments: Literal["both", "client"] = "both"
    """Whose gradients are clipped and noisy. The client's alone prove nothing: the server trains on the same rows."""
    sampling: Sampling = "poisson"
    """How rows come into batches. poisson: each with the chance batch_size / rows, and sums are divided by the batch
    that is expected. shuffled: each once per epoch, for which there is no accountant here."""
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    """The chance that what epsilon promises does not hold; well below one by the number of a client's rows."""

    @property
    def samples(self) -> Sampling:
        """As its setting says."""
        return self.sampling

    @property
    def caveat(self) -> str:
        """Why there is no epsilon, where none can be; and what even one does not cover."""
        return f"no epsilon: {self._unproven}; {_UNCOVERED}" if self._unproven else _UNCOVERED

    def refuses(self, segments: Segments, before: tuple[Defense, ...] = ()) -> str:
        """What joins the samples of a batch, and what draws random numbers, which would be others the second time that
        a sample passes; a head, whose gradients nobody clips; and an epsilon that nobody could tell."""
        del before
        noisy = segments.whole if self.segments == "both" else segments.client
        if name := _first(noisy, _joins_or_draws):
            remedy = "use norm: group or dropout: 0, leave batch_norm or mid out, or cut the model before it"
            return f"needs what each sample gives alone, and {name} ({remedy})"
        if self.sampling == "poisson" and (name := _first(segments.whole, _joins)):
            return f"may draw batches of a single row, and {name} (use sampling: shuffled)"
        if self.segments == "both" and segments.head is not None:
            return "clips both sides of the cut, and a head at the client is neither (use segments: client)"
        if not self._unproven and not has_accountant():
            return "tells an epsilon by opacus, which is not installed (pip install 'fedsplit[privacy]')"
        return ""

    def privacy(self, segments: Segments, draws: Sequence[Draws], spoilt: str) -> str:
        """The largest epsilon of all clients, each by its own batches; or why there is none."""
        kept = next((name for name, _ in segments.whole.named_buffers()), "")
        unseen = f"{kept} may keep what no noise reaches" if kept else ""
        if reason := self._unproven or unseen or spoilt:
            return f"no epsilon: {reason}; {_UNCOVERED}"
        told = (epsilon(self.noise_multiplier, one.rate, one.steps, self.delta) for one in _most(draws))
        largest = max(told, default=0.0)
        return f"epsilon {largest:.3g} at delta {self.delta:g}, of the weights alone; {_UNCOVERED}"

    def after_backward(self, segment: nn.Module, step: ClientStep, rng: Generator) -> None:
        """Puts the noisy mean of clipped gradients in the place of every gradient, whatever came before."""
        gradient = torch.zeros_like(step.smashed) if step.gradient is None else step.gradient
        self._replace(segment, Passage(step.images, step.smashed.detach(), gradient.detach(), step.mass), rng)

    def after_server_backward(self, segment: nn.Module, passage: Passage, rng: Generator) -> None:
        """The same at the server."""
        if self.segments == "both":
            self._replace(segment, passage, rng)

    @property
    def _unproven(self) -> str:
        """Why its settings prove nothing."""
        if self.segments == "client":
            return "the server segment trains without noise on the same rows"
        if self.sampling != "poisson":
            return "batches are shuffled, not drawn by Poisson sampling"
        return "" if self.noise_multiplier else "there is no noise"

    def _replace(self, segment: nn.Module, passage: Passage, rng: Generator) -> None:
        moving = {name: parameter for name, parameter in segment.named_parameters() if parameter.requires_grad}
        if not moving:
            return
        for name, clipped in self._clipped(segment, moving, passage).items():
            noise = torch.randn(clipped.shape, generator=rng, device=rng.device, dtype=clipped.dtype)
            noisy = clipped + self.noise_multiplier * self.clip * noise.to(clipped.device)
            moving[name].grad = noisy / passage.mass

    def _clipped(self, segment: nn.Module, moving: Parameters, passage: Passage) -> dict[str, Tensor]:
        """The sum over rows, each as if its loss times its weight was all there is."""
        own = {name: parameter.detach() for name, parameter in moving.items()}

        def alone_through(parameters: Parameters, sample: Tensor) -> Tensor:
            # Not the segment's own buffers: some blocks count in theirs what passes.
            buffers = {name: buffer.clone() for name, buffer in segment.named_buffers()}
            return functional_call(segment, {**buffers, **parameters}, (sample,))

        bound = self.clip / sqrt(2) if self.segments == "both" else self.clip
        backwards = passage.gradient * passage.mass
        alone, clipped = clipped_gradient(alone_through, own, passage.inputs, backwards, bound)
        if (alone - passage.outputs).norm() > _SAME * passage.outputs.norm():
            remedy = "use a model whose segments take each image by itself and draw nothing"
            raise EngineError("dp_sgd: samples give something else alone than in their batch", remedy=remedy)
        return clipped


def _joins(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)  # pyright: ignore[reportPrivateUsage]


def _joins_or_draws(module: nn.Module) -> bool:
    drops = isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0  # pyright: ignore[reportPrivateUsage]
    return _joins(module) or drops or isinstance(module, GaussianSample)


def _first(segment: Segment, having: Callable[[nn.Module], bool]) -> str:
    found = ((name, module) for name, module in segment.named_modules() if having(module))
    return next((f"{name} is a {type(module).__name__}" for name, module in found), "")


def _most(draws: Sequence[Draws]) -> set[Draws]:
    """Without those that another one covers, with as many steps and as large a chance: epsilon grows with either."""
    taking_part = {one for one in draws if one.steps}

    def covered(one: Draws) -> bool:
        return any(one != other and other.rate >= one.rate and other.steps >= one.steps for other in taking_part)

    return {one for one in taking_part if not covered(one)}
