"""The kernel distance against a double loop, and that it has no bias."""

import numpy as np
import pytest
import torch

from fedsplit.numerics.kernel_distance import kernel_distance


def samples(count: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_is_the_double_sum():
    first, second = samples(6, 4, 0).numpy(), samples(9, 4, 1).numpy() + 0.5

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 4 + 1) ** 3)

    def within(rows: np.ndarray) -> float:
        pairs = [(i, j) for i in range(len(rows)) for j in range(len(rows)) if i != j]
        return float(np.mean([kernel(rows[i], rows[j]) for i, j in pairs]))

    between = np.mean([kernel(x, y) for x in first for y in second])
    expected = within(first) + within(second) - 2 * between
    assert kernel_distance(torch.tensor(first), torch.tensor(second)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("count", [8, 64])
def test_it_is_zero_on_average_however_few_samples_there_are(count: int):
    found = torch.tensor([kernel_distance(samples(count, 5, 2 * s), samples(count, 5, 2 * s + 1)) for s in range(400)])
    assert abs(float(found.mean())) < 3 * float(found.std()) / 20
    assert float(found.min()) < 0


def test_it_grows_with_the_shift():
    near, far = (kernel_distance(samples(200, 5, 0), samples(200, 5, 1) + shift) for shift in (0.2, 1.0))
    assert 0 < near < far
