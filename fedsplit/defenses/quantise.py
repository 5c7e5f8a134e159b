"""Few levels per value, with dither as an option (Roberts, IRE Transactions on Information Theory 1962)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Generator, Tensor

from fedsplit.defenses.base import Defense
from fedsplit.numerics.uniform import uniform


class Quantise(Defense):
    """Rounds every activation to one of `2 ** bits` levels, evenly spaced between the sample's least and largest one.

    The gradient passes as if nothing was rounded (straight through). Levels are a property of the sample, so no sample
    tells of another; its least and largest value cross as they are.
    """

    bits: Annotated[int, Field(ge=1, le=16)]
    """Per value."""
    dither: bool = False
    """Whether noise of one level's width is added before rounding: values are then right on average, and the errors of
    neighbouring values have nothing to do with each other. Who asks again for the same image averages it away."""

    def release(self, smashed: Tensor, rng: Generator) -> Tensor:
        """(n, *cut shape) -> the same shape; a sample of one value stays as it is."""
        values = smashed.detach().flatten(1)
        least, largest = values.aminmax(dim=1, keepdim=True)
        levels = 2**self.bits - 1
        width = ((largest - least) / levels).clamp(min=torch.finfo(values.dtype).tiny)
        places = (values - least) / width
        if self.dither:
            places = places + uniform(values, rng) - 0.5
        rounded = least + width * places.round().clamp(0, levels)
        return smashed + (rounded.reshape(smashed.shape) - smashed.detach())
