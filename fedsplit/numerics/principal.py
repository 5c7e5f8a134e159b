"""Principal components of a set of vectors (Pearson 1901; through the Gram matrix, Turk & Pentland 1991)."""

import torch
from torch import Tensor

_FITTED = 1000
"""Rows that the axes are found from, evenly spread over all: finding them costs the cube of their number."""


def principal_components(rows: Tensor, count: int, fitted: Tensor | None = None) -> Tensor:
    """(n, width) -> (n, count): the centred rows on their axes of largest variance, the largest first, in float64.

    fitted: (m, width), the rows whose centre and axes these are, where that is not `rows` itself. Exact up to 1,000 of
    them, or columns. An axis points where its largest loading is positive, so that the same rows always give the same
    map. Columns beyond the rank are zero. Where a value is not finite, all are nan.
    """
    fitted = rows if fitted is None else fitted
    found = torch.zeros(len(rows), count, dtype=torch.float64)
    if not bool(rows.isfinite().all() and fitted.isfinite().all()):
        return found.fill_(torch.nan)
    some = fitted[:: max(1, -(-len(fitted) // _FITTED))].double()
    mean = some.mean(dim=0)
    axes = _axes(some - mean, count)
    found[:, : axes.shape[1]] = rows.double() @ axes - mean @ axes
    return found


def _axes(centred: Tensor, count: int) -> Tensor:
    """(width, axes): orthonormal, with no more axes than the rank."""
    long = centred.shape[0] >= centred.shape[1]
    values, vectors = torch.linalg.eigh(centred.T @ centred if long else centred @ centred.T)
    kept = values.flip(0)[:count] > values[-1] * max(centred.shape) * torch.finfo(values.dtype).eps
    largest = vectors.flip(1)[:, :count][:, kept]
    axes = largest if long else torch.nn.functional.normalize(centred.T @ largest, dim=0)
    # Of equal loadings up to rounding the first counts, whichever came out larger.
    heavy = axes.abs() >= axes.abs().amax(dim=0, keepdim=True) * (1 - 1e-6)
    signs = axes.gather(0, heavy.double().argmax(dim=0, keepdim=True)).sign()
    return axes * signs
