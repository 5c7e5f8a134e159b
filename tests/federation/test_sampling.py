import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

from fedsplit.federation.sampling import batch_count, batches, expected_mass, rate, step_count
from fedsplit.records.images import Holding
from tests.federation.builders import holding, images


def drawn(rows: int, size: int, epochs: int, seed: int = 0) -> torch.Tensor:
    """(batches, rows): who is in which."""
    found = torch.zeros(epochs * batch_count(rows, size), rows, dtype=torch.bool)
    for epoch in range(epochs):
        for number, places in enumerate(batches("poisson", rows, size, Generator().manual_seed(1000 * seed + epoch))):
            found[epoch * batch_count(rows, size) + number, places] = True
    return found


def test_every_row_is_in_a_drawn_batch_with_the_same_chance_and_by_itself() -> None:
    rows, size = 60, 8
    inside = drawn(rows, size, epochs=500)
    assert len(inside) == 500 * 8
    for row in range(rows):
        assert scipy.stats.binomtest(int(inside[:, row].sum()), len(inside), size / rows).pvalue > 1e-4
    # As many rows as so many coins give; a fixed number would have no variance.
    sizes = inside.sum(dim=1).double()
    assert abs(sizes.mean() - size) < 0.2
    assert abs(sizes.var() / (size * (1 - size / rows)) - 1) < 0.15
    # Neither does one batch tell the next, nor one row another.
    together = (inside[:-1] & inside[1:]).double().mean()
    assert abs(together - (size / rows) ** 2) < 0.001
    pairs = (inside[:, ::2] & inside[:, 1::2]).double().mean()
    assert abs(pairs - (size / rows) ** 2) < 0.001


@settings(max_examples=50)
@given(st.integers(1, 40), st.integers(1, 45), st.integers(0, 99))
def test_a_drawn_epoch_has_as_many_batches_as_a_shuffled_one(rows: int, size: int, seed: int) -> None:
    for sampling in ("poisson", "shuffled"):
        found = list(batches(sampling, rows, size, Generator().manual_seed(seed)))
        assert len(found) == batch_count(rows, size) == step_count(rows, size, 1, 1.0)
        assert all(len(places.unique()) == len(places) for places in found)
    if size >= rows:
        assert torch.equal(next(batches("poisson", rows, size, Generator())), torch.arange(rows))
    assert 0 < rate(rows, size) <= 1


def test_draws_are_those_of_their_stream() -> None:
    first, again, other = drawn(30, 5, 2), drawn(30, 5, 2), drawn(30, 5, 2, seed=1)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_drawn_batch_weighs_what_is_expected() -> None:
    own = holding(images(20, seed=0))
    assert expected_mass("shuffled", own, 5) is None
    assert expected_mass("poisson", own, 5) == 5
    assert expected_mass("poisson", own, 50) == 20
    lighter = Holding(own.pixels, own.labels, torch.linspace(0, 1, 20), own.rows, own.watched)
    weights = [float(lighter.weights[places].sum()) for seed in range(400) for places in of(seed)]
    assert abs(sum(weights) / len(weights) - (expected_mass("poisson", lighter, 5) or 0)) < 0.12


def of(seed: int) -> list[torch.Tensor]:
    return list(batches("poisson", 20, 5, Generator().manual_seed(seed)))
