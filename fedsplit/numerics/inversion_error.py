"""How far off the best guess at a vector is of which a linear map was seen: the error of the linear estimate of least
mean square (Kay, Fundamentals of Statistical Signal Processing: Estimation Theory, 1993, chapter 12)."""

import torch
from torch import Tensor


def ideal_inversion_error(weight: Tensor, covariance: Tensor, noise_variance: float = 0.0) -> float:
    """(tr S - tr(S W^T (W S W^T + v I)^+ W S)) / d, in float64.

    weight: W, (k, d). covariance: S, (d, d). noise_variance: v, of independent noise on each of the k numbers. It is
    the mean squared error of the best affine guess at x from W x + noise, whatever the laws of both; of the best guess
    of all where both are Gaussian.
    """
    values, axes = torch.linalg.eigh(covariance.double())
    factor = axes * values.clamp(min=0).sqrt()
    # Of W S^(1/2) itself, for in W S W^T small directions would drown in rounding.
    _, strengths, directions = torch.linalg.svd(weight.double() @ factor, full_matrices=False)
    squares = strengths.square()
    faint = strengths <= strengths[0] * max(weight.shape) * torch.finfo(torch.float64).eps
    known = torch.where(faint, 0.0, squares / (squares + noise_variance).clamp(min=torch.finfo(torch.float64).tiny))
    told = (known * (factor @ directions.T).square().sum(dim=0)).sum()
    return max(0.0, float(values.clamp(min=0).sum() - told)) / len(covariance)
