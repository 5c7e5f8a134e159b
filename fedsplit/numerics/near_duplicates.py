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
    parents = list(range(len(pixels)))
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        for first, second in _pairs(thumbnails[members], threshold):
            _join(parents, int(members[first]), int(members[second]))
    return torch.tensor([_root(parents, row) for row in range(len(parents))], dtype=torch.long)


def _thumbnails(pixels: Tensor) -> Tensor:
    side = min(_SIDE, *pixels.shape[-2:])
    thumbnails = F.adaptive_avg_pool2d(pixels.float(), side).flatten(1)
    thumbnails = thumbnails - thumbnails.mean(dim=1, keepdim=True)
    deviation = thumbnails.std(dim=1, keepdim=True, correction=0)
    return thumbnails / deviation.clamp_min(_FLAT) / thumbnails.shape[1] ** 0.5


def _pairs(thumbnails: Tensor, threshold: float) -> Iterator[tuple[int, int]]:
    squares = thumbnails.square().sum(dim=1)
    for start in range(0, len(thumbnails), _BLOCK):
        block = slice(start, start + _BLOCK)
        products = thumbnails[block] @ thumbnails[start:].T
        distances = squares[block, None] + squares[None, start:] - 2 * products
        near = (distances < threshold**2).triu(diagonal=1).nonzero() + start
        yield from map(tuple, near.tolist())


def _root(parents: list[int], row: int) -> int:
    while parents[row] != row:
        parents[row] = parents[parents[row]]
        row = parents[row]
    return row


def _join(parents: list[int], first: int, second: int) -> None:
    first, second = _root(parents, first), _root(parents, second)
    parents[max(first, second)] = min(first, second)
