import pytest
import torch
from torch import Generator, Tensor

from fedsplit.layers.surrogate import Grown, Reading, Surrogate, train_surrogates
from fedsplit.seeding import Seeds

PASSES = (0, 15)


def pairs(rows: int = 24, shape: tuple[int, int, int] = (1, 6, 5)) -> tuple[Tensor, Tensor]:
    rng = Generator().manual_seed(0)
    images = torch.rand((rows, *shape), generator=rng, dtype=torch.float64)
    logits = 8 * images.flatten(1)[:, :4]
    return logits.softmax(dim=1), images


@pytest.fixture(scope="module")
def surrogates() -> tuple[Surrogate, ...]:
    return train_surrogates(*pairs(), PASSES, Seeds(0), logarithms=True)


def test_they_differ_in_architecture_and_loss_and_how_far_they_are_trained(surrogates: tuple[Surrogate, ...]) -> None:
    assert {one.power for one in surrogates} == {1, 2}
    sizes = [sum(value.numel() for value in one.network.parameters()) for one in surrogates]
    assert len(surrogates) == 6 and len(set(sizes)) == 3
    drawn, trained = surrogates[::2], surrogates[1::2]
    for before, after in zip(drawn, trained, strict=True):
        assert after.losses(*pairs()).mean() < 0.9 * before.losses(*pairs()).mean()


def test_the_same_seeds_give_the_same_ones_and_global_draws_none(surrogates: tuple[Surrogate, ...]) -> None:
    state = torch.random.get_rng_state()
    torch.rand(3)
    again = train_surrogates(*pairs(), PASSES, Seeds(0), logarithms=True)
    torch.random.set_rng_state(state)
    for one, other in zip(surrogates, again, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.network.parameters(), other.network.parameters(), strict=True))


def test_slopes_are_products_with_each_rows_own_gradient(surrogates: tuple[Surrogate, ...]) -> None:
    seen, images = pairs()
    for surrogate in surrogates:
        count = sum(value.numel() for value in surrogate.network.parameters())
        direction = torch.randn(count, generator=Generator().manual_seed(1), dtype=torch.float64)
        rows = torch.stack([surrogate.gradient(seen[row : row + 1], images[row : row + 1]) for row in range(len(seen))])
        torch.testing.assert_close(surrogate.slopes(seen, images, direction), rows @ direction)
        torch.testing.assert_close(surrogate.gradient(seen, images), rows.mean(dim=0))


def test_a_gradient_can_be_differentiated_by_what_is_seen(surrogates: tuple[Surrogate, ...]) -> None:
    seen, images = pairs(rows=2)
    for surrogate in surrogates:
        place = seen.clone().requires_grad_()
        (slope,) = torch.autograd.grad(surrogate.gradient(place, images).square().sum(), place)
        moved = torch.zeros_like(seen)
        moved[1, 2] = 1e-6
        rise, fall = (surrogate.gradient(seen + sign * moved, images).detach().square().sum() for sign in (1, -1))
        assert float(slope[1, 2]) == pytest.approx(float(rise - fall) / 2e-6, rel=1e-4, abs=1e-9)


def test_a_reading_is_standardised_and_finite_where_a_class_is_never_seen() -> None:
    seen = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    for logarithms in (True, False):
        assert torch.equal(Reading(seen, logarithms=logarithms)(seen), torch.zeros(2, 2))
    sure = torch.eye(2)
    read = Reading(sure, logarithms=True)(sure)
    assert read.mean(dim=0).abs().max() < 1e-6
    assert float(read.square().mean()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("image", [(1, 8, 8), (3, 7, 10), (1, 1, 1)])
def test_a_grown_image_has_any_size(image: tuple[int, int, int]) -> None:
    found = Grown(5, image)(torch.randn(2, 5))
    assert found.shape == (2, *image)
    assert found.min() >= 0 and found.max() <= 1
