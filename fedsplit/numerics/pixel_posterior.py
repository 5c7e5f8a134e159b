"""Small images from the correlations of their patches with atoms, each of its own precision: a dense system each."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fedsplit.numerics.dictionary import Dictionary
from fedsplit.numerics.priors import FactorPrior


@dataclass(frozen=True)
class Patches:
    """The atoms of a dictionary, place by place, by the pixels they touch. pixels, values: (codes, kernel area)."""

    pixels: Tensor
    values: Tensor
    size: int

    def gram(self, rows: Tensor, weights: Tensor) -> Tensor:
        """The sum over some codes of weight times atom times atom', (d, d)."""
        pixels, values = self.pixels[rows], self.values[rows]
        products = (weights[:, None, None] * values[:, :, None] * values[:, None, :]).flatten()
        places = (pixels[:, :, None] * self.size + pixels[:, None, :]).flatten()
        gram = torch.zeros(self.size**2, dtype=values.dtype, device=values.device)
        return gram.index_add_(0, places, products).view(self.size, self.size)


def patches(dictionary: Dictionary) -> Patches:
    """Where every atom lies and what it is there; beyond the border it is zero."""
    atoms = dictionary.atoms
    shape = (atoms.shape[1], *dictionary.size)
    size = torch.Size(shape).numel()
    numbers = torch.arange(1, size + 1, dtype=atoms.dtype, device=atoms.device).view(1, *shape)
    windows = F.unfold(numbers, atoms.shape[-1], padding=dictionary.padding, stride=dictionary.stride)[0].T.long()
    values = torch.where(windows > 0, atoms.flatten(1)[:, None], 0).flatten(0, 1)
    return Patches((windows - 1).clamp(min=0).repeat(len(atoms), 1), values, size)


def from_correlations(
    dictionary: Dictionary, correlations: Tensor, active: Tensor, variances: tuple[float, float], prior: FactorPrior
) -> Tensor:
    """For every sample, the image of which these are the correlations with all atoms, up to noise.

    correlations: (n, *codes). active: (n, *codes), which have the first of the variances; the others have the second.
    Returns (n, channels, height, width).
    """
    inside, outside = (1 / variance for variance in variances)
    atoms = patches(dictionary)
    everywhere = torch.arange(len(atoms.pixels), device=active.device)
    base = atoms.gram(everywhere, torch.full_like(atoms.values[:, 0], outside)) + prior.precision()
    shape = (dictionary.atoms.shape[1], *dictionary.size)
    mean = prior.mean.view(1, *shape)
    weights = torch.where(active, inside, outside)
    right = dictionary.synthesise(weights * (correlations - dictionary.correlate(mean))).flatten(1)
    found: list[Tensor] = []
    for own, target in zip(active.flatten(1), right, strict=True):
        rows = own.nonzero()[:, 0]
        gram = atoms.gram(rows, torch.full_like(atoms.values[rows, 0], inside - outside))
        found.append(torch.cholesky_solve(target[:, None], torch.linalg.cholesky(gram.add_(base)))[:, 0])
    return mean + torch.stack(found).view(-1, *shape)
