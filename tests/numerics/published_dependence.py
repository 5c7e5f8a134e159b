"""The published formulas of dependence, entry by entry and without regard to rounding."""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def centring(count: int) -> Matrix:
    return np.eye(count) - np.ones((count, count)) / count


def published_kernel(rows: Matrix, width: float) -> Matrix:
    return np.array(
        [[np.exp(-np.sum((one - other) ** 2) / (2 * width**2 * one.size)) for other in rows] for one in rows]
    )


def published_hsic(one: Matrix, other: Matrix) -> float:
    count = len(one)
    sides = [kernel @ centring(count) for kernel in (one, other)]
    left, right = (side @ np.linalg.inv(side + 1e-5 * count * np.eye(count)) for side in sides)
    return float(np.sum(left * right.T))


def published_coco(one: Matrix, other: Matrix) -> float:
    keep = centring(len(one))
    return float(np.sqrt(np.linalg.norm(keep @ one @ keep @ keep @ other @ keep))) / len(one)
