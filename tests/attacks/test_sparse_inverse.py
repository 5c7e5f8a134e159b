"""The walk backwards, where the answer is known."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedsplit.attacks.linear_inverse import LinearInverse
from fedsplit.attacks.sparse_inverse import SparseInverse
from fedsplit.checks import check_cuts
from fedsplit.errors import ScenarioError
from fedsplit.layers.anchored import Anchored
from fedsplit.layers.bottleneck import low_rank_factor
from fedsplit.layers.sparse_coding import SparseCodingLayer
from fedsplit.layers.walk import learn_walk, leaves
from fedsplit.numerics.affine_fit import affine_fit
from fedsplit.numerics.fista import Fista
from fedsplit.numerics.guesses import Guess
from fedsplit.records.images import Shape
from fedsplit.seeding import Seeds
from tests import tiny
from tests.attacks.leaks import Case, case, dark_and_bright, flat_client, noisy, pooled_client, rows_client


def normalisation(channels: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(channels)
    for value in (layer.running_mean, layer.running_var, layer.weight, layer.bias):
        assert value is not None
        nn.init.uniform_(value, 0.5, 1.5)
    return layer


def sparse_layer(channels: int, features: int, lambda_: float = 0.1) -> SparseCodingLayer:
    return SparseCodingLayer(channels, features, 3, lambda_=lambda_, solver=Fista(1e-2, 50))


def coded_client(shape: Shape) -> nn.Module:
    """Sparse-Standard in small."""
    stages = (sparse_layer(shape[0], 12), normalisation(12), nn.Conv2d(12, 24, 3, padding=1), normalisation(24))
    return nn.Sequential(*stages, nn.Sequential(nn.Dropout(0.1), nn.Linear(shape[2], 60), nn.ReLU()))


def twice_coded_client(shape: Shape) -> nn.Module:
    stages = (sparse_layer(shape[0], 12), normalisation(12), sparse_layer(12, 20), normalisation(20))
    return nn.Sequential(*stages, nn.Sequential(nn.Linear(shape[2], 60), nn.ReLU()))


def convolved_client(shape: Shape) -> nn.Module:
    """All linear, and twice as many outputs as inputs in each place."""
    maps = nn.Conv2d(shape[0], 8, 3, padding=1)
    return nn.Sequential(maps, normalisation(8), nn.Conv2d(8, 16, 3, padding=1), nn.Flatten(), nn.Identity())


def low_rank_client(shape: Shape) -> nn.Module:
    return nn.Sequential(rows_client(shape), low_rank_factor((shape[0], shape[1], 40), 16))


def reconstruct(about: Case, **settings: Any) -> Tensor:
    return SparseInverse(**settings).reconstruct(about.leak, Seeds(0)("attack")).images


def shapely_error(about: Case, guess: Tensor) -> float:
    """Squared error after the best scale and offset of each image."""
    return (affine_fit(guess, about.truth) - about.truth).square().mean().item()


@pytest.mark.parametrize("client", [rows_client, convolved_client])
def test_a_client_that_loses_nothing_is_undone_exactly(client: Any):
    about = case(client, dtype=torch.float64)
    torch.testing.assert_close(reconstruct(about), about.truth, rtol=0, atol=1e-7)


def test_single_precision_costs_no_more_than_its_digits():
    about = case(rows_client)
    torch.testing.assert_close(reconstruct(about), about.truth, rtol=0, atol=1e-3)


def test_images_behind_sparse_codes_are_known_but_for_their_scale():
    about = case(coded_client, auxiliary=400)
    guess = SparseInverse().reconstruct(about.leak, Seeds(0)("attack"))
    ridge = LinearInverse().reconstruct(about.leak, Seeds(0)("attack"))
    assert shapely_error(about, guess.images) < 0.2 * shapely_error(about, ridge.images)
    # The scale of a phantom does not hang on what it shows, so this is the lesser half.
    assert about.error(guess.images) < 0.75 * about.error(ridge.images)
    assert "certified error of the plain reconstruction" in guess.evidence.settings


def test_images_in_order_of_their_classes_teach_as_much_as_mixed_ones():
    mixed = case(coded_client, auxiliary=400, draw=dark_and_bright)
    assert mixed.leak.auxiliary_pairs is not None
    images, pairs = mixed.leak.auxiliary, mixed.leak.auxiliary_pairs
    order = (torch.arange(400) % 2).argsort(stable=True)
    ordered = replace(
        mixed.leak,
        auxiliary=replace(images, images=images.images[order]),
        auxiliary_pairs=replace(pairs, smashed=pairs.smashed[order]),
    )
    guesses = [SparseInverse(lessons=150).reconstruct(leak, Seeds(0)("attack")) for leak in (mixed.leak, ordered)]
    assert all(guess.evidence.settings.startswith("the walk") for guess in guesses)
    assert all(mixed.error(guess.images) < 0.1 * mixed.anchor for guess in guesses)


def test_codes_behind_a_convolution_are_recovered_to_rounding():
    about = case(coded_client, auxiliary=40, dtype=torch.float64)
    assert about.leak.client_weights is not None
    assert about.leak.auxiliary_pairs is not None
    layers = tuple(leaves(about.leak.client_weights.broadcast))
    walk = learn_walk(layers, about.leak.auxiliary.images, about.leak.auxiliary_pairs.smashed)
    behind = {step.leaf.name: step.error**0.5 for step in walk.steps}
    # In front of the normalisation lie the codes.
    assert behind["1"] < 1e-9


def test_blocks_that_remember_where_they_were_are_walked_as_those_inside():
    def anchored(shape: Shape) -> nn.Module:
        return nn.Sequential(*(Anchored(block) for block in coded_client(shape)))

    plain, wrapped = (case(client, auxiliary=40, dtype=torch.float64) for client in (coded_client, anchored))
    assert torch.equal(reconstruct(wrapped), reconstruct(plain))


def test_behind_two_sparse_layers_it_is_no_worse_than_the_linear_guess():
    about = case(twice_coded_client, auxiliary=200)
    ridge = LinearInverse().reconstruct(about.leak, Seeds(0)("attack"))
    assert about.error(reconstruct(about)) < about.error(ridge.images) < about.anchor


def test_what_lies_between_the_walk_and_a_linear_map_is_closer_than_either(monkeypatch: pytest.MonkeyPatch):
    about, tried = case(twice_coded_client, auxiliary=200), dict[str, float]()

    def chosen(guesses: Sequence[Guess]) -> Guess:
        tried.update({guess.name: about.error(guess.images.float()) for guess in guesses})
        return guesses[-1]

    monkeypatch.setattr("fedsplit.attacks.sparse_inverse.chosen", chosen)
    between = about.error(reconstruct(about))
    names = [name for name in tried if name.endswith("from all that crossed")]
    assert names[-1].startswith("between the walk and")
    assert between < min(tried["the walk, gain 1.00"], *(tried[name] for name in names[:-1]))


def test_a_decoder_learns_from_the_recovered_codes_and_is_chosen_where_it_is_better():
    def client(shape: Shape) -> nn.Module:
        stages = (sparse_layer(shape[0], 12, 0.5), normalisation(12), sparse_layer(12, 4, 0.8), normalisation(4))
        return nn.Sequential(*stages, nn.Sequential(nn.Linear(shape[2], 40), nn.ReLU()))

    about = case(client, auxiliary=800)
    plain = SparseInverse().reconstruct(about.leak, Seeds(0)("attack"))
    refined = SparseInverse(refine="network").reconstruct(about.leak, Seeds(0)("attack"))
    assert refined.evidence.settings.startswith("decoder of 800 walked images")
    assert "behind 0" in refined.evidence.settings, "the codes of the first layer"
    assert about.error(refined.images) < about.error(plain.images)
    again = SparseInverse(refine="network").reconstruct(about.leak, Seeds(0)("attack"))
    assert torch.equal(refined.images, again.images)


def test_a_decoder_is_not_chosen_where_the_walk_is_better():
    about = case(rows_client)
    refined = reconstruct(about, refine="network")
    torch.testing.assert_close(refined, reconstruct(about), rtol=0, atol=0)


def test_where_a_flat_layer_lets_too_little_through_the_rest_comes_from_the_auxiliary_images():
    about = case(flat_client)
    guess = SparseInverse().reconstruct(about.leak, Seeds(0)("attack"))
    assert "not injective in 100.0% of rows" in guess.evidence.settings
    assert about.error(guess.images) < 0.3 * about.anchor


def test_a_bottleneck_is_walked_through():
    about = case(low_rank_client)
    assert about.error(reconstruct(about)) < 0.6 * about.anchor


def test_noise_leaves_the_regularised_linear_map():
    about = case(rows_client, noisy)
    guess = SparseInverse().reconstruct(about.leak, Seeds(0)("attack"))
    assert guess.evidence.settings.startswith("ridge")
    assert about.error(guess.images) < 0.8 * about.anchor


def test_a_permuted_leak_is_worse_than_no_leak():
    about = case(coded_client, auxiliary=100)
    order = torch.randperm(len(about.truth), generator=Seeds(0)("order"))
    permuted = replace(about, leak=about.leak.permuted(order))
    assert about.error(reconstruct(permuted)) > about.anchor


def test_layers_that_it_cannot_undo_are_named():
    refusal = SparseInverse().refuses(pooled_client((1, 12, 12)))
    assert refusal == "cannot undo the AvgPool2d at '2'"
    assert not SparseInverse().refuses(coded_client((1, 12, 12)))


def test_a_scenario_with_such_a_row_is_refused_before_any_compute():
    attacked = ("attacks=[{kind: sparse_inverse}]", "threats=[{kind: curious_server}]")
    with pytest.raises(ScenarioError, match=r"attacks\.0.*cannot undo the MaxPool2d at 'pool1' \(in row 'none'\)"):
        check_cuts(tiny.scenario("model={kind: lenet}", "cut=pool1", *attacked), (1, 8, 8), 10)
