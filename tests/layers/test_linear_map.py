"""The ridge and the map that sites share: what each is fitted to, and what is left out with what."""

import torch
from torch import Tensor, nn

from fedsplit.layers.linear_map import fit_linear_maps
from fedsplit.numerics.ridge import fit_ridge
from fedsplit.seeding import Seeds

IMAGES = torch.rand(60, 1, 6, 6, generator=Seeds(0)("images"), dtype=torch.float64)


def crossed(images: Tensor) -> Tensor:
    with Seeds(0).fork("client"):
        client = nn.Linear(6, 9).double()
    return client(images).detach()


def noise(count: int, width: int = 9) -> Tensor:
    return torch.randn(count, 1, 6, width, generator=Seeds(0)("noise"), dtype=torch.float64)


def test_the_first_is_the_ridge_alone_and_the_second_adds_one_for_what_a_shared_map_left_over():
    smashed = crossed(IMAGES) + 0.3 * noise(60)
    ridge, after = fit_linear_maps(smashed, IMAGES)
    alone = fit_ridge(smashed.flatten(1), IMAGES.flatten(1))
    assert ridge.shared is None and "shared" not in ridge.words
    torch.testing.assert_close(ridge.predict(smashed), alone.predict(smashed.flatten(1)).view_as(IMAGES))
    assert after.shared is not None and "shared by rows" in after.words
    left = IMAGES - after.shared.predict(smashed)
    rest = fit_ridge(smashed.flatten(1), left.flatten(1)).predict(smashed.flatten(1)).view_as(IMAGES)
    torch.testing.assert_close(after.predict(smashed), after.shared.predict(smashed) + rest)


def test_where_no_place_is_known_there_is_the_ridge_alone():
    assert [fitted.shared for fitted in fit_linear_maps(crossed(IMAGES).flatten(1), IMAGES)] == [None]


def test_draws_that_are_copies_are_as_if_there_were_one():
    smashed = crossed(IMAGES) + 0.3 * noise(60)
    once = fit_linear_maps(smashed, IMAGES)
    copies = fit_linear_maps(smashed.repeat_interleave(3, dim=0), IMAGES.repeat_interleave(3, dim=0), draws=3)
    for one, other in zip(once, copies, strict=True):
        torch.testing.assert_close(one.predict(smashed), other.predict(smashed))
        assert abs(one.error - other.error) < 1e-6 * one.error


def test_of_noise_no_draw_tells_about_another_one_of_its_image():
    images = IMAGES[:10].repeat_interleave(4, dim=0)
    # Nearly the same in all draws of an image and nothing about it: who has learned three of them knows the fourth.
    marks = noise(10, 40).repeat_interleave(4, dim=0) + 1e-3 * noise(40, 40)
    variance = float((images - images.mean(dim=0)).square().mean())
    ridge, after = fit_linear_maps(marks, images, draws=4)
    assert ridge.error > 0.98 * variance
    assert after.shared is not None and after.shared.error > 0.98 * variance
