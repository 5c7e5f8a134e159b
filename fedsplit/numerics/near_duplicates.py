"""Groups of images that show nearly the same thing: neighbouring slices of one patient, shots of one burst."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

_SIDE = 16
_BLOCK = 1024
_FLAT = 5 / 255
"""The least deviation that a thumbnail is divided by, so that nearly blank images stay nearly equal."""


def near_duplicate_groups(pixels: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """pixels: (n, channels, height, width) in [0, 1] -> (n,) int64, the group of each image.

    Two images of one class are joined when the root mean square distance of their standardised 16 x 16 thumbnails is
    below `threshold`, and groups are what is joined directly or through others (single linkage). The distance of two
    images that have nothing to do with each other is about 1.4, whatever their brightness and contrast.
    """
    thumbnails = _thumbnails(pixels)
    lowest = torch.arange(len(pixels))
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        for first, second in _pairs(thumbnails[members], threshold):
            lowest = _joined(lowest, members[first], members[second])
    return lowest


def united_groups(groups: Tensor, others: Tensor) -> Tensor:
    """(n,), (n,) -> (n,): what either of them keeps together, directly or through others, is one group."""
    rows = torch.arange(len(groups))
    lowest = rows
    for numbers in (groups, others):
        same = torch.unique(numbers, return_inverse=True)[1]
        lowest = _joined(lowest, rows, torch.full_like(rows, len(rows)).scatter_reduce(0, same, rows, "amin")[same])
    return lowest


def _thumbnails(pixels: Tensor) -> Tensor:
    side = min(_SIDE, *pixels.shape[-2:])
    thumbnails = F.adaptive_avg_pool2d(pixels.float(), side).flatten(1)
    thumbnails = thumbnails - thumbnails.mean(dim=1, keepdim=True)
    deviation = thumbnails.std(dim=1, keepdim=True, correction=0)
    return thumbnails / deviation.clamp_min(_FLAT) / thumbnails.shape[1] ** 0.5


def _pairs(thumbnails: Tensor, threshold: float) -> Iterator[tuple[Tensor, Tensor]]:
    """The rows of near pairs, block by block; every pair is met at least once."""
    squares = thumbnails.square().sum(dim=1)
    for start in range(0, len(thumbnails), _BLOCK):
        block = slice(start, start + _BLOCK)
        products = thumbnails[block] @ thumbnails[start:].T
        distances = squares[block, None] + squares[None, start:] - 2 * products
        first, second = (distances < threshold**2).nonzero(as_tuple=True)
        yield first + start, second + start


def _joined(lowest: Tensor, ends: Tensor, others: Tensor) -> Tensor:
    """Joins the groups of `ends` and `others`, pair by pair. lowest: (n,), the lowest row of each row's group."""
    while True:
        left, right = lowest[ends], lowest[others]
        apart = left != right
        if not apart.any():
            return lowest
        ends, others = ends[apart], others[apart]
        high, low = torch.maximum(left, right)[apart], torch.minimum(left, right)[apart]
        lowest = lowest.scatter_reduce(0, high, low, "amin")
        while not torch.equal(shorter := lowest[lowest], lowest):
            lowest = shorter
