"""Distance correlation (Szekely, Rizzo, Bakirov, Annals of Statistics 2007): how far two sets of points depend."""

import torch
from torch import Tensor


def distance_correlation(one: Tensor, other: Tensor, *, squared: bool = False) -> Tensor:
    """(n, ...) and (n, ...), row by row about the same sample -> a differentiable scalar in [0, 1].

    0 where one of them is constant. squared: of squared distances, which see linear dependence only.
    """
    left, right = _centred(one, squared), _centred(other, squared)
    tiny = torch.finfo(left.dtype).tiny
    # Not below a tiny number, for the root has no slope at zero.
    widths = [(each * each).sum().clamp(min=tiny).sqrt() for each in (left, right)]
    return ((left * right).sum() / widths[0] / widths[1]).clamp(min=tiny).sqrt()


def _centred(points: Tensor, squared: bool) -> Tensor:
    """(n, ...) -> (n, n): pairwise distances, less the means of rows and columns."""
    flat = points.flatten(1)
    distances = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
    if squared:
        distances = distances.square()
    return distances - distances.mean(dim=0) - distances.mean(dim=1, keepdim=True) + distances.mean()
