"""How a layer is undone: from what is known of its output to what is then known of its input."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedsplit.numerics.dictionary import Dictionary
from fedsplit.numerics.posterior import from_few_planes, from_planes, from_rows
from fedsplit.numerics.priors import factor_prior, stationary_prior, white_prior

_STUDIED_ROWS = 4096
_SATURATED = 1 - 1e-7
_SURE = 3.0
AMPLE = 1.5
"""Equations per unknown from which on a map of planes is taken to be injective."""
_DIGITS = 0.75
"""Of the digits that crossed, the share to which such a convolution is undone."""


@dataclass(frozen=True)
class Sight:
    """What is known of a layer's input or output. values: (n, *shape), float64. known: where they say anything, of that
    shape, or None for everywhere. noise: their variance about the truth. remark: what the step that led here has to
    say, in words."""

    values: Tensor
    noise: float
    known: Tensor | None = None
    remark: str = ""

    def precision(self) -> Tensor:
        """One over the variance, zero where nothing is known: of the shape of the values."""
        known = torch.ones_like(self.values) if self.known is None else self.known.to(self.values)
        return known / self.noise


@dataclass(frozen=True)
class Lesson:
    """What the layer did to images of one's own. inputs: (n, *input shape) and outputs, as they were, float64. seen:
    these outputs as they are seen from behind. rounding: the precision, relative, of the numbers that crossed."""

    inputs: Tensor
    outputs: Tensor
    seen: Sight
    rounding: float


Undo = Callable[[Sight], Sight]
"""Its noise is that of the output, unless it is told; the walk measures it."""


def undo_relu(layer: nn.Module, lesson: Lesson) -> Undo:
    """An output clearly above zero is the input; others only say that it was not."""
    del layer, lesson
    return lambda seen: Sight(seen.values, seen.noise, seen.values > _SURE * seen.noise**0.5)


def undo_tanh(layer: nn.Module, lesson: Lesson) -> Undo:
    """Outputs near one tell only that the input was large."""
    del layer, lesson
    return lambda seen: Sight(seen.values.clamp(-_SATURATED, _SATURATED).atanh(), seen.noise, seen.known)


def undo_nothing(layer: nn.Module, lesson: Lesson) -> Undo:
    """For what does nothing in evaluation, but perhaps to the shape."""
    del layer
    shape = lesson.inputs.shape[1:]

    def undo(seen: Sight) -> Sight:
        known = None if seen.known is None else seen.known.view(-1, *shape)
        return Sight(seen.values.view(-1, *shape), seen.noise, known)

    return undo


def undo_batch_norm(layer: nn.Module, lesson: Lesson) -> Undo:
    """Known factors and offsets; a channel without a factor says nothing, and gets its mean."""
    assert isinstance(layer, nn.BatchNorm2d)
    mean, variance = _given(layer.running_mean), _given(layer.running_var)
    factor = (variance + layer.eps).rsqrt() * (_given(layer.weight) if layer.affine else 1.0)
    offset = (_given(layer.bias) if layer.affine else 0.0) - mean * factor
    factor, offset = factor[:, None, None], offset[:, None, None]
    usual = lesson.inputs.mean(dim=(0, 2, 3))[:, None, None]
    return lambda seen: Sight(torch.where(factor != 0, (seen.values - offset) / factor, usual), seen.noise, seen.known)


def undo_linear(layer: nn.Module, lesson: Lesson) -> Undo:
    """Every row of features by itself, from its known outputs; what those leave open is filled in from the lesson."""
    assert isinstance(layer, nn.Linear)
    rows = _by_rows(lesson.inputs)
    enough = max(2, -(-_STUDIED_ROWS // rows.shape[1]))
    prior = factor_prior(rows[:: max(1, len(rows) // enough)])
    weight, bias = layer.weight.detach().to(rows), _bias(layer, rows)
    shape = lesson.inputs.shape[1:]

    def undo(seen: Sight) -> Sight:
        precision = _by_rows(seen.precision())
        found = from_rows(weight, _by_rows(seen.values) - bias, precision, prior)
        short = float(((precision > 0).sum(dim=-1) < weight.shape[1]).double().mean())
        return Sight(
            found.view(-1, *shape), seen.noise, remark=f"not injective in {short:.1%} of rows" if short else ""
        )

    return undo


def undo_convolution(layer: nn.Module, lesson: Lesson) -> Undo:
    """All places together, from the known outputs; what those leave open is filled in from the lesson."""
    assert isinstance(layer, nn.Conv2d)
    unknown = lesson.inputs[0].numel()
    equations = float((lesson.seen.precision() > 0).double().flatten(1).sum(dim=1).mean()) / unknown
    few = equations < AMPLE
    prior = stationary_prior(lesson.inputs) if few else white_prior(lesson.inputs)
    weight, bias = layer.weight.detach().to(prior.mean), _bias(layer, prior.mean).view(-1, 1, 1)
    size = (lesson.inputs.shape[2], lesson.inputs.shape[3])
    dictionary = Dictionary(weight, size, layer.stride[0], int(layer.padding[0]))

    def undo(seen: Sight) -> Sight:
        observed, precision = seen.values - bias, seen.precision()
        if few:
            found = from_few_planes(dictionary, observed, precision, prior)
            return Sight(found, seen.noise, remark=f"{equations:.2f} equations per unknown")
        return Sight(from_planes(dictionary, observed, precision, prior, lesson.rounding**_DIGITS), seen.noise)

    return undo


def _by_rows(tensor: Tensor) -> Tensor:
    return tensor.flatten(1, -2) if tensor.dim() > 2 else tensor[:, None]


def _bias(layer: nn.Linear | nn.Conv2d, like: Tensor) -> Tensor:
    bias: Tensor | None = layer.bias
    return torch.zeros(len(layer.weight)).to(like) if bias is None else bias.detach().to(like)


def _given(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor.detach().double()
