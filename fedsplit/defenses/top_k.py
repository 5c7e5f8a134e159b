"""Only the largest activations leave the client (pruning, a baseline of ResSFL: Li, Rakin, Chen et al., CVPR 2022)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Generator, Tensor

from fedsplit.defenses.base import Defense


class TopK(Defense):
    """Sets all but the largest values of each sample's smashed data, by magnitude, to zero.

    Which of them are left says much about the image by itself, and nothing is random: who asks again learns nothing
    new. The gradient passes where a value did.
    """

    share: Annotated[float, Field(gt=0, lt=1)]
    """How much of each sample's values is kept; at least one value is."""

    def release(self, smashed: Tensor, rng: Generator) -> Tensor:
        """(n, *cut shape) -> the same shape. Among equal magnitudes, any may be kept."""
        del rng
        magnitudes = smashed.detach().flatten(1).abs()
        kept = magnitudes.topk(max(1, round(self.share * magnitudes.shape[1])), dim=1).indices
        mask = torch.zeros_like(magnitudes).scatter_(1, kept, 1.0)
        return smashed * mask.reshape(smashed.shape)
