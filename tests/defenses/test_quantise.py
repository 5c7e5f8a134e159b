from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from fedsplit.defenses.quantise import Quantise
from tests.federation.builders import federation, plan_of, train


def rounded(smashed: Tensor, bits: int, *, dither: bool = False, seed: int = 0) -> Tensor:
    return Quantise(bits=bits, dither=dither).release(smashed, Generator().manual_seed(seed))


def values(seed: int = 0) -> Tensor:
    return torch.randn(5, 3, 7, 4, generator=Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(1, 8), st.booleans(), st.integers(0, 50))
def test_a_sample_has_levels_that_are_evenly_spaced_from_its_least_to_its_largest(
    bits: int, dither: bool, seed: int
) -> None:
    smashed = values(seed)
    for before, after in zip(smashed, rounded(smashed, bits, dither=dither), strict=True):
        width = (before.max() - before.min()) / (2**bits - 1)
        places = (after - before.min()) / width
        torch.testing.assert_close(places, places.round(), rtol=0, atol=1e-9)
        assert places.round().min() >= 0
        assert places.round().max() <= 2**bits - 1
        assert (after - before).abs().max() <= width * (1 if dither else 0.5) * (1 + 1e-9)


def test_one_bit_leaves_the_extremes() -> None:
    smashed = torch.tensor([[0.0, 1.0, 4.0, 9.0, 10.0]])
    assert rounded(smashed, 1).tolist() == [[0, 0, 0, 10, 10]]


def test_what_is_rounded_stays_as_it_is() -> None:
    once = rounded(values(), 3)
    torch.testing.assert_close(rounded(once, 3), once, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dither", [False, True])
def test_a_sample_of_one_value_stays_as_it_is(dither: bool) -> None:
    smashed = torch.full((2, 3, 4), 0.7)
    assert torch.equal(rounded(smashed, 4, dither=dither), smashed)


def test_a_sample_does_not_tell_of_the_others() -> None:
    changed = values()
    changed[1:] *= 100
    assert torch.equal(rounded(values(), 2)[0], rounded(changed, 2)[0])


def test_with_dither_values_are_right_on_average_and_without_it_they_are_not() -> None:
    smashed = values()[:1]
    width = (smashed.max() - smashed.min()) / 3
    repeated = smashed.expand(4000, -1, -1, -1)
    error = rounded(repeated, 2, dither=True).mean(dim=0) - smashed[0]
    # The deviation of one rounding is at most half a level.
    assert error.abs().max() < 5 * 0.5 * width / 4000**0.5
    assert (rounded(repeated, 2).mean(dim=0) - smashed[0]).abs().max() > 0.4 * width


@pytest.mark.parametrize("dither", [False, True])
def test_the_gradient_passes_straight_through(dither: bool) -> None:
    smashed = values().requires_grad_()
    weights = torch.rand(smashed.shape, generator=Generator().manual_seed(1), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weights * rounded(smashed, 2, dither=dither)).sum(), smashed)
    assert torch.equal(gradient, weights)


def test_many_levels_train_like_no_defense(tmp_path: Path) -> None:
    plans = plan_of(defense=Quantise(bits=16), precision="float64"), plan_of(precision="float64")
    fine, none = (train(tmp_path / str(place), plan, federation()).standing for place, plan in enumerate(plans))
    for name, value in none.server.items():
        torch.testing.assert_close(fine.server[name], value, rtol=1e-3, atol=1e-4)
