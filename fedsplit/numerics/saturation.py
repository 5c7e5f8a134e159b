"""Undoing what squeezes numbers into a range."""

from typing import Literal

import torch
from torch import Tensor

Squeeze = Literal["tanh", "sigmoid"]


def squeezed(values: Tensor, squeeze: Squeeze) -> bool:
    """Whether all values lie within what tanh or the sigmoid can give, to which rounding adds the ends.

    What ReLU gives is neither, however small: tanh of what has both signs has them too, and no sigmoid comes to zero.
    """
    if squeeze == "tanh":
        return bool((values.abs() <= 1).all()) and bool((values < 0).any())
    return bool(((values > 0) & (values <= 1)).all())


def unsqueezed(values: Tensor, squeeze: Squeeze) -> Tensor:
    """What tanh or the sigmoid made these values of, of the same shape and type.

    Values outside, or nearer to an end than their type tells apart from 1, are taken for the last ones that it does:
    what was squeezed beyond is lost. Differentiable within.
    """
    # Half the gap above 1: the gap below it.
    least = torch.finfo(values.dtype).eps / 2
    if squeeze == "tanh":
        return values.clamp(least - 1, 1 - least).atanh()
    return values.clamp(least, 1 - least).logit()
