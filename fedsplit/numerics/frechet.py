"""The Frechet distance between two sets of vectors, each taken for a Gaussian (Dowson & Landau 1982)."""

import torch
from torch import Tensor


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """(n, width), (m, width) -> |difference of means|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), never below 0, in float64.

    S1 and S2 are the sample covariances. With R'R = S, the trace of (S1 S2)^(1/2) is the sum of the singular values
    of R1 R2': nothing is squared and rooted again, so covariances of low rank cost no digits.
    """
    first, second = first.double(), second.double()
    first_mean, second_mean = first.mean(0), second.mean(0)
    first_root, second_root = _root(first - first_mean), _root(second - second_mean)
    shift = (first_mean - second_mean).square().sum()
    spread = first_root.square().sum() + second_root.square().sum()
    overlap = torch.linalg.svdvals(first_root @ second_root.T).sum()
    return max(0.0, float(shift + spread - 2 * overlap))


def _root(centred: Tensor) -> Tensor:
    """Any R with R'R the sample covariance, of at most `width` rows."""
    rows, width = centred.shape
    scaled = centred / max(rows - 1, 1) ** 0.5
    return torch.linalg.qr(scaled, mode="r").R if rows > width else scaled
