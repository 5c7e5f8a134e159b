"""Undoing what squeezes numbers into a range."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Squeeze = Literal["tanh", "sigmoid"]


@dataclass(frozen=True)
class _Range:
    low: float
    high: float


_RANGES: dict[Squeeze, _Range] = {"tanh": _Range(-1.0, 1.0), "sigmoid": _Range(0.0, 1.0)}


def squeezed(values: Tensor, squeeze: Squeeze) -> bool:
    """Whether all values lie within what tanh or the sigmoid can give, to which rounding adds the ends."""
    limits = _RANGES[squeeze]
    return bool(((values >= limits.low) & (values <= limits.high)).all())


def unsqueezed(values: Tensor, squeeze: Squeeze) -> Tensor:
    """What tanh or the sigmoid made these values of, of the same shape and type.

    Values outside, or nearer to an end than their type tells apart from 1, are taken for the last ones that it does:
    what was squeezed beyond is lost. Differentiable within.
    """
    # Half the gap above 1: the gap below it.
    least = torch.finfo(values.dtype).eps / 2
    limits = _RANGES[squeeze]
    inside = values.clamp(limits.low + least, limits.high - least)
    return inside.atanh() if squeeze == "tanh" else inside.logit()
