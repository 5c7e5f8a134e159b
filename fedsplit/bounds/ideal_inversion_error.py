"""The least error of a guess that is affine in what crossed an affine client (after the ideal inversion error of LoFt,
Yu et al., KDD 2026: the error of the conditional mean, here for a linear model and noise, in the form it has for
Gaussian images)."""

from copy import deepcopy
from typing import ClassVar, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from fedsplit.bounds.base import Bound, Channel
from fedsplit.numerics.inversion_error import ideal_inversion_error
from fedsplit.records.outcome import Limit

_AT_ONCE = 256
_ROUNDING = 1e-9


class IdealInversionError(Bound):
    """Per pixel (tr S - tr(S W^T (W S W^T + v I)^+ W S)) / d: W is what the client does, found as the difference that
    each pixel makes; v the variance of the noise; S the covariance of the targets themselves.

    So it is exact for these targets: no attack whose guess is affine in what it saw errs less on them, however it came
    about, on average over the noise. Were images and noise Gaussian, no attack at all would; images are not, and one
    that knows what they look like may well come below. With no more targets than numbers that cross, some affine map
    fits all of them, and the bound says nothing. Guesses are clamped to [0, 1] before they are scored, which can only
    help them.
    """

    metric: ClassVar[str] = "mse"
    direction: ClassVar[Literal["at least", "at most"]] = "at least"
    about: ClassVar[str] = "attacks whose guess is affine in what crossed; all attacks, were images and noise Gaussian"

    most: PositiveInt = 2**24
    """Entries of W, pixels times values that cross, beyond which it is not computed."""

    @torch.no_grad()
    def limit(self, channel: Channel, images: Tensor) -> Limit:
        """Holds for a client that is affine on the targets, and noise of a known variance or none."""
        if channel.noise_variance is None:
            return self.absent("what is released is not what the client computes with noise of a known variance")
        client, targets = deepcopy(channel.client).double(), images.double()
        crossing = client(targets[:1]).numel()
        if crossing * targets[0].numel() > self.most:
            return self.absent(f"the client's map has more than {self.most} entries")
        if not _affine_between(client, targets):
            return self.absent("the client segment is not affine")
        black = client(torch.zeros_like(targets[:1])).flatten()
        weight = _differences(client, targets, black)
        flat = targets.flatten(1)
        if not _alike(flat @ weight.T + black, client(targets).flatten(1)):
            return self.absent("the client segment is not affine")
        covariance = flat.T.cov(correction=0)
        return self.known(ideal_inversion_error(weight, covariance, channel.noise_variance))


def _affine_between(client: nn.Module, images: Tensor) -> bool:
    """Whether half-way between two images lies half-way between what is made of them: quickly told, not proven."""
    ends = images[:_AT_ONCE], images[:_AT_ONCE].flip(0)
    return _alike(client((ends[0] + ends[1]) / 2), (client(ends[0]) + client(ends[1])) / 2)


def _differences(client: nn.Module, images: Tensor, black: Tensor) -> Tensor:
    """(crossing, pixels): what each pixel changes in what is made of a black image."""
    single = torch.eye(images[0].numel(), dtype=images.dtype, device=images.device).view(-1, *images.shape[1:])
    return (torch.cat([client(some).flatten(1) for some in single.split(_AT_ONCE)]) - black).T


def _alike(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() <= _ROUNDING * expected.abs().max().clamp(min=1))
