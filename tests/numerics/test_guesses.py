import torch
from torch import Tensor

from fedsplit.numerics.guesses import Guess, chosen, mixed

IMAGES = torch.rand(400, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double() / 2 + 0.25
"""The first half are validation images, the others targets."""


def guess(images: Tensor, name: str = "guess") -> Guess:
    """images: a guess at all of `IMAGES`."""
    return Guess(name, images[200:], images[:200], IMAGES[:200])


def off(size: float | Tensor, seed: int) -> Tensor:
    return IMAGES + size * torch.randn(IMAGES.shape, generator=torch.Generator().manual_seed(seed)).double()


def error(images: Tensor) -> float:
    return float((images - IMAGES[200:]).square().mean())


def test_the_first_of_equals_is_chosen():
    mean = guess(torch.full_like(IMAGES, 0.5), "mean")
    first, second = guess(off(0.02, 1), "first"), guess(off(-0.02, 1), "second")
    assert chosen([mean, first, second]).name == "first"
    assert chosen([mean, second, first]).name == "second"


def test_a_later_one_is_chosen_where_it_is_better_beyond_doubt():
    mean, first, better = guess(torch.full_like(IMAGES, 0.5), "mean"), guess(off(0.1, 1)), guess(off(0.09, 2), "better")
    assert chosen([mean, first, better]).name == "better"


def test_nothing_is_chosen_whose_error_is_above_that_of_the_mean_image():
    strange = torch.where(torch.arange(400)[:, None, None, None] % 4 == 0, 1.0, IMAGES + 1e-4)
    mean, lucky = guess(torch.full_like(IMAGES, 0.5), "mean"), guess(strange, "lucky")
    assert float(lucky.decades.mean()) < float(mean.decades.mean())
    assert chosen([mean, lucky]).name == "mean"


def test_two_that_go_wrong_in_different_ways_are_worth_more_than_either():
    astray = torch.where(torch.arange(400)[:, None, None, None] % 3 == 0, 0.4, 0.02)
    walked, linear = guess(off(astray.double(), 1)), guess(off(0.1, 2))
    both = mixed(walked, linear)
    assert error(both.images) < 0.75 * min(error(walked.images), error(linear.images))
    # Nearly all of a good walk is kept, and hardly anything of one that went astray.
    good = torch.arange(200, 400) % 3 != 0
    assert float((both.images - IMAGES[200:])[good].square().mean()) < 1e-3
    assert float((both.images - IMAGES[200:])[~good].square().mean()) < 1.2e-2


def test_half_of_each_is_best_where_both_are_alike():
    walked, linear = guess(off(0.1, 1)), guess(off(0.1, 2))
    assert abs(error(mixed(walked, linear).images) / error(walked.images) - 0.5) < 0.05


def test_what_is_judged_was_not_learned_from():
    walked, linear = guess(off(0.1, 1)), guess(off(0.1, 2))
    other = torch.cat([IMAGES[:100], 1 - IMAGES[100:200]])
    told = mixed(walked, linear)
    lied = mixed(Guess("", walked.images, walked.judged, other), Guess("", linear.images, linear.judged, other))
    # The second half's truth decides how the first is guessed, and not how the second is.
    assert not torch.equal(told.judged[:100], lied.judged[:100])
    assert torch.equal(told.judged[100:], lied.judged[100:])


def test_guesses_that_agree_and_a_single_validation_image_are_no_fault():
    walked = guess(off(0.1, 1))
    assert torch.allclose(mixed(walked, walked).images, walked.images)
    alone = Guess("", walked.images, walked.judged[:1], IMAGES[:1])
    found = mixed(alone, Guess("", IMAGES[200:], IMAGES[:1], IMAGES[:1]))
    assert found.images.isfinite().all() and found.judged.isfinite().all()
    assert chosen([alone, found]) in (alone, found)
