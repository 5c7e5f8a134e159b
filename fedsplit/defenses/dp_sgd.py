"""Clipped and noisy gradients (Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar, Zhang, Deep Learning with Differential
Privacy, CCS 2016) of the client segment."""

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Generator, Tensor, nn
from torch.func import functional_call

from fedsplit.defenses.base import Defense
from fedsplit.errors import EngineError
from fedsplit.numerics.sample_gradients import Parameters, clipped_gradient
from fedsplit.records.step import ClientStep
from fedsplit.split import Segments

_SAME = 0.05
"""Relative distance between what samples give alone and in their batch. Rounding, of bfloat16 too, stays far below."""


class DpSgd(Defense):
    """No row adds more than `clip` to the client segment's gradient, and noise in proportion hides whether it did.

    Meant against whoever sees the weights of the client segment and asks which images it was trained on. It does not
    limit what one activation reveals about the image that is being sent: the cut is as open as without it. The server
    segment, and a head that stays at the client, train without noise, and batches are shuffled, not drawn by Poisson
    sampling. So an accountant's assumptions do not hold, and no epsilon is told.
    """

    clip: PositiveFloat = 1.0
    """Largest norm of what one row adds to the sum of gradients, over all parameters of the client segment together."""
    noise_multiplier: NonNegativeFloat = 1.1
    """Standard deviation of the noise on every parameter's sum over the batch, as a multiple of `clip`."""

    @property
    def caveat(self) -> str:
        """Why there is no epsilon, and what even one would not cover."""
        return (
            "no epsilon is told: the server segment trains without noise, and batches are shuffled, not drawn by "
            "Poisson sampling; noise on weights does not limit what one activation reveals about the image being sent"
        )

    def refuses(self, segments: Segments, before: tuple[Defense, ...] = ()) -> str:
        """What joins the samples of a batch, and what draws random numbers, which would be others the second time that
        a sample passes."""
        del before
        for name, module in segments.client.named_modules():
            joins = isinstance(module, nn.modules.batchnorm._BatchNorm)  # pyright: ignore[reportPrivateUsage]
            draws = isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0  # pyright: ignore[reportPrivateUsage]
            if joins or draws:
                remedy = "use norm: group or dropout: 0, leave batch_norm out, or cut the model before it"
                return f"needs what each sample gives alone, and {name} is a {type(module).__name__} ({remedy})"
        return ""

    def after_backward(self, segment: nn.Module, step: ClientStep, rng: Generator) -> None:
        """Puts the noisy mean of clipped gradients in the place of every gradient, whatever came before."""
        moving = {name: parameter for name, parameter in segment.named_parameters() if parameter.requires_grad}
        if not moving:
            return
        total = step.weights.sum()
        for name, clipped in self._clipped(segment, moving, step).items():
            noise = torch.randn(clipped.shape, generator=rng, device=rng.device, dtype=clipped.dtype)
            moving[name].grad = (clipped + self.noise_multiplier * self.clip * noise.to(clipped.device)) / total

    def _clipped(self, segment: nn.Module, moving: Parameters, step: ClientStep) -> dict[str, Tensor]:
        """The sum over rows, each as if its loss times its weight was all there is."""
        own = {name: parameter.detach() for name, parameter in moving.items()}
        gradient = torch.zeros_like(step.smashed) if step.gradient is None else step.gradient.detach()

        def smashed_alone(parameters: Parameters, image: Tensor) -> Tensor:
            # Not the segment's own buffers: some blocks count in theirs what passes.
            buffers = {name: buffer.clone() for name, buffer in segment.named_buffers()}
            return functional_call(segment, {**buffers, **parameters}, (image,))

        backwards = gradient * step.weights.sum()
        alone, clipped = clipped_gradient(smashed_alone, own, step.images, backwards, self.clip)
        smashed = step.smashed.detach()
        if (alone - smashed).norm() > _SAME * smashed.norm():
            remedy = "use a model whose client segment takes each image by itself and draws nothing"
            raise EngineError("dp_sgd: samples give something else alone than in their batch", remedy=remedy)
        return clipped
