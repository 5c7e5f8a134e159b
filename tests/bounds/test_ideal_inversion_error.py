from collections import OrderedDict

import pytest
import torch
from torch import Generator, Tensor, nn

from fedsplit.bounds.base import Channel
from fedsplit.bounds.ideal_inversion_error import IdealInversionError
from fedsplit.seeding import Seeds

SHAPE = (2, 5, 4)


def images(count: int = 60) -> Tensor:
    return torch.rand((count, *SHAPE), generator=Generator().manual_seed(0))


def client(*modules: nn.Module) -> nn.Module:
    return nn.Sequential(*modules).eval()


def few_numbers(rank: int = 6) -> nn.Module:
    with Seeds(0).fork("client"):
        return client(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(18, rank))


@pytest.mark.parametrize("rank", [1, 6, 12])
def test_it_is_the_error_of_least_squares_fitted_to_the_targets_themselves(rank: int) -> None:
    targets, segment = images(), few_numbers(rank)
    found = IdealInversionError().limit(Channel(segment, 0.0), targets)
    with torch.no_grad():
        seen = torch.cat([segment.double()(targets.double()), torch.ones(60, 1)], dim=1).double()
    flat = targets.double().flatten(1)
    best = seen @ torch.linalg.lstsq(seen, flat, driver="gelsd").solution
    assert found.value == pytest.approx(float((best - flat).square().mean()))
    assert (found.metric, found.direction, found.reason) == ("mse", "at least", "")


def test_no_ridge_with_any_strength_comes_below_it_and_noise_raises_it() -> None:
    targets, segment = images(), few_numbers().double()
    values = [IdealInversionError().limit(Channel(segment, noise), targets).value for noise in (0.0, 0.01, 0.1, 1e6)]
    assert None not in values
    assert values == sorted(values)  # pyright: ignore
    flat = targets.double().flatten(1)
    assert values[-1] == pytest.approx(float((flat - flat.mean(dim=0)).square().mean()), rel=1e-3)
    with torch.no_grad():
        seen = segment(targets.double())
    rng = Generator().manual_seed(1)
    noisy = torch.cat([seen + 0.1 * torch.randn(seen.shape, generator=rng).double() for _ in range(200)])
    wanted = flat.repeat(200, 1)
    centred, off = noisy - seen.mean(dim=0), wanted - flat.mean(dim=0)
    best = torch.linalg.lstsq(centred, off).solution
    assert float((centred @ best - off).square().mean()) == pytest.approx(values[1], rel=0.02)


def test_with_no_more_targets_than_numbers_that_cross_it_says_nothing() -> None:
    found = IdealInversionError().limit(Channel(few_numbers(8), 0.0), images(9))
    assert found.value == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    "step", [nn.ReLU(), nn.Tanh(), nn.Softmax(dim=1), nn.Hardtanh(-0.4, 0.4)], ids=lambda step: type(step).__name__
)
def test_a_client_that_is_not_affine_has_none(step: nn.Module) -> None:
    segment = nn.Sequential(OrderedDict(few=few_numbers(), step=step))
    found = IdealInversionError().limit(Channel(segment, 0.0), images())
    assert found.value is None
    assert found.reason == "the client segment is not affine"


def test_a_client_that_is_affine_between_some_targets_and_not_everywhere_has_none() -> None:
    # Far enough from zero that no target and no half-way point crosses the kink, but a black image does.
    bent = client(nn.Flatten(), Kinked())
    bright = 0.9 + 0.1 * images()
    found = IdealInversionError().limit(Channel(bent, 0.0), bright)
    assert found.value is None


class Kinked(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return (values - 0.5).relu()


def test_it_leaves_the_client_and_the_images_as_they_were() -> None:
    segment, targets = few_numbers(), images()
    before = {name: value.clone() for name, value in segment.state_dict().items()}
    IdealInversionError().limit(Channel(segment, 0.0), targets)
    assert all(torch.equal(value, before[name]) for name, value in segment.state_dict().items())
    assert all(value.dtype == before[name].dtype for name, value in segment.state_dict().items())
    assert torch.equal(targets, images())


def test_unknown_noise_and_large_maps_have_none() -> None:
    assert "known variance" in IdealInversionError().limit(Channel(few_numbers(), None), images()).reason
    assert "more than 239 entries" in IdealInversionError(most=239).limit(Channel(few_numbers(), 0.0), images()).reason
    assert IdealInversionError(most=240).limit(Channel(few_numbers(), 0.0), images()).value is not None
