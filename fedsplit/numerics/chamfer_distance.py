"""How far two sets of vectors are from each other, each vector from the nearest of the other set (Barrow, Tenenbaum,
Bolles and Wolf, "Parametric correspondence and chamfer matching", IJCAI 1977)."""

import torch
from torch import Tensor


def chamfer_distance(first: Tensor, second: Tensor) -> float:
    """(n, width), (m, width) -> the mean Euclidean distance to the nearest vector of the other set, over both sets."""
    apart = torch.cdist(first.double(), second.double())
    return float(apart.amin(dim=1).mean() + apart.amin(dim=0).mean()) / 2


def mean_gap(rows: Tensor) -> float:
    """(n, width), two rows at least -> the mean Euclidean distance of a row to the nearest other one."""
    apart = torch.cdist(rows.double(), rows.double())
    return float(apart.fill_diagonal_(torch.inf).amin(dim=1).mean())
