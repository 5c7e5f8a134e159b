"""The linear attack against scikit-learn, and where the answer is known."""

from dataclasses import replace

import torch
from sklearn.linear_model import RidgeCV
from torch import nn

from fedsplit.attacks.linear_inverse import LinearInverse
from fedsplit.layers.linear_map import fit_linear_maps
from fedsplit.records.images import Shape
from fedsplit.records.leak import Pairs
from fedsplit.seeding import Seeds
from tests.attacks.leaks import Case, case, flat_client, map_client, noisy, rows_client


def reconstruct(about: Case, draws: int = 4):
    return LinearInverse(draws=draws).reconstruct(about.leak, Seeds(0)("attack"))


def test_on_flat_smashed_data_it_is_scikit_learns_ridge():
    about = case(flat_client, noisy, queries=False, dtype=torch.float64)
    assert about.leak.smashed is not None
    assert about.leak.auxiliary_pairs is not None
    features, targets = about.leak.auxiliary_pairs.smashed, about.leak.auxiliary.images.flatten(1)
    largest = torch.linalg.matrix_norm(features - features.mean(dim=0), ord=2).item() ** 2
    grid = [10.0**power * largest for power in range(-10, 2)]
    # The same leave-one-out choice, but over all images and targets at once.
    reference = RidgeCV(alphas=grid).fit(features, targets)
    expected = torch.as_tensor(reference.predict(about.leak.smashed)).view_as(about.truth)
    torch.testing.assert_close(reconstruct(about).images, expected, rtol=1e-6, atol=1e-6)


def test_a_linear_client_that_loses_nothing_is_undone():
    about = case(map_client, dtype=torch.float64)
    assert about.error(reconstruct(about).images) < 1e-3 * about.anchor


def test_a_map_shared_by_rows_is_used_where_it_helps():
    about = case(rows_client)
    guess = reconstruct(about)
    assert "shared by rows" in guess.evidence.settings
    assert about.error(guess.images) < 0.1 * about.anchor


def spreading_client(shape: Shape) -> nn.Module:
    """Every pixel is everywhere in what leaves it, which is laid out as rows all the same."""
    channels, height, width = shape
    everywhere = nn.Linear(channels * height * width, 16 * height * width)
    return nn.Sequential(nn.Flatten(), everywhere, nn.ReLU(), nn.Unflatten(1, (16, height, width)))


def test_a_shared_map_that_only_looks_better_on_the_images_it_was_fitted_to_is_not_used():
    about = case(spreading_client, auxiliary=20)
    assert about.leak.smashed is not None and about.leak.auxiliary_pairs is not None
    ridge, shared = fit_linear_maps(about.leak.auxiliary_pairs.smashed, about.leak.auxiliary.images)
    assert shared.error < 0.8 * ridge.error, "what it left over is small where it was fitted"
    assert about.error(shared.predict(about.leak.smashed)) > 2 * about.error(ridge.predict(about.leak.smashed))
    guess = reconstruct(about)
    assert "shared" not in guess.evidence.settings
    assert torch.equal(guess.images, ridge.predict(about.leak.smashed))


def test_more_draws_help_against_noise_and_are_left_out_where_release_is_exact():
    about = case(flat_client, noisy, auxiliary=200)
    one, many = reconstruct(about, 1), reconstruct(about, 8)
    assert about.error(many.images) < about.error(one.images)
    assert "draws 8" in many.evidence.settings
    assert "draws 1" in reconstruct(case(flat_client), 8).evidence.settings


def test_more_features_than_images_are_solved_from_one_draw():
    about = case(rows_client, noisy, auxiliary=100)
    guess = reconstruct(about)
    assert "draws 1" in guess.evidence.settings
    assert about.error(guess.images) < about.anchor


def test_constant_smashed_data_gives_the_mean_image_exactly():
    about = case(queries=False)
    assert about.leak.smashed is not None
    assert about.leak.auxiliary_pairs is not None
    pairs = about.leak.auxiliary_pairs
    silent = Pairs(torch.zeros_like(pairs.smashed), torch.zeros_like(pairs.validation_smashed))
    leak = replace(about.leak, smashed=torch.zeros_like(about.leak.smashed), auxiliary_pairs=silent)
    guess = LinearInverse().reconstruct(leak, Seeds(0)("attack")).images
    torch.testing.assert_close(guess, about.mean_image)
