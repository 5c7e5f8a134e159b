"""The two numbers per sample that standardisation takes away, guessed from what it leaves."""

import torch
from torch import Tensor

from fedsplit.numerics.affine_fit import affine_fit
from fedsplit.numerics.kernel_ridge import fit_kernel_ridge

_LEVELS = 21
_LEVELS_COUNT = 0.5
_COMMON = 0.25
_COLOURS = 4
_DEVIATION = 1


class Moments:
    """From samples of zero mean and unit deviation over channels and pixels to what they were before.

    A sample is nearest to offset + scale x what was found of its standardised form, so whatever is known of it is an
    equation in these two: its mean, deviation and extremes, which hang on what it shows and are predicted by a kernel
    ridge; and, where many places of a channel hold one constant (as the ground of a drawing, or zeros of codes behind a
    normalisation), this constant. How far off each equation is, and how they hang together, is measured on samples of
    which the truth is known, and weighs them.
    """

    def __init__(self, inputs: Tensor, plain: Tensor, found: Tensor) -> None:
        """inputs: (n, channels, height, width), as they came. plain: their standardised form, as far as codes tell it
        without more work. found: that of the first ones, as it will be handed to `restored`."""
        self.bounds = (inputs.amin(), inputs.amax())
        self.ridge = fit_kernel_ridge(_features(plain), _summary(inputs))
        centre = inputs.transpose(0, 1).flatten(1).median(dim=1).values
        self.common = (inputs == centre[:, None, None]).double().mean(dim=(0, 2, 3)) > _COMMON
        self.constants = centre[self.common]
        count = len(found)
        predicted = _summary(inputs[:count]) - self.ridge.left_out[:count]
        # What was found is fainter than the standardised form, and its ground is off: measured by the line that suits
        # it, and not by the true mean and deviation, what a constant says is as sure as it is.
        off = self._wanted(predicted) - self._told(affine_fit(found, inputs[:count]))
        self.bias = off.mean(dim=0)
        scatter = (off - self.bias).T @ (off - self.bias) / count
        own = torch.diag(scatter.diagonal())
        share = scatter.shape[0] / (scatter.shape[0] + count)
        least = 1e-12 * (float(own.max()) or 1.0) * torch.eye(len(own), dtype=own.dtype, device=own.device)
        self.precision = torch.linalg.inv((1 - share) * scatter + share * own + least)

    def restored(self, standard: Tensor, plain: Tensor) -> Tensor:
        """Standardised samples -> the samples."""
        equations, wanted = self._equations(standard), self._wanted(self.ridge.predict(_features(plain))) - self.bias
        weighted = equations.mT @ self.precision
        # Where nothing was found, any scale would do.
        solved = torch.linalg.pinv(weighted @ equations, hermitian=True) @ weighted @ wanted[..., None]
        offset, scale = solved[..., 0].unbind(dim=1)
        restored = offset.view(-1, 1, 1, 1) + scale.clamp(min=0).view(-1, 1, 1, 1) * standard
        return restored.clamp(*self.bounds)

    def _wanted(self, summary: Tensor) -> Tensor:
        return torch.cat([summary, self.constants.expand(len(summary), -1)], dim=1)

    def _told(self, samples: Tensor) -> Tensor:
        """(n, equations): what holds of these samples."""
        medians = samples.flatten(2).median(dim=2).values[:, self.common]
        return torch.cat([_summary(samples), medians], dim=1)

    def _equations(self, standard: Tensor) -> Tensor:
        """(n, equations, 2): what each would be of an offset and a scale."""
        scales = self._told(standard)
        offsets = torch.ones_like(scales)
        offsets[:, _DEVIATION] = 0.0
        return torch.stack([offsets, scales], dim=2)


def _summary(samples: Tensor) -> Tensor:
    """(n, 4): mean, deviation, smallest, largest."""
    moments = [samples.mean(dim=(1, 2, 3)), samples.std(dim=(1, 2, 3))]
    return torch.stack([*moments, samples.amin(dim=(1, 2, 3)), samples.amax(dim=(1, 2, 3))], dim=1)


def _features(plain: Tensor) -> Tensor:
    # One number per channel and place is enough to tell what an image shows.
    flat = plain.flatten(1) if plain.shape[1] <= _COLOURS else plain.mean(dim=(2, 3))
    quantiles = plain.flatten(1).sort(dim=1).values
    levels = torch.linspace(0, quantiles.shape[1] - 1, _LEVELS).round().long().to(plain.device)
    return torch.cat([flat / flat.shape[1] ** 0.5, _LEVELS_COUNT * quantiles[:, levels]], dim=1)
