"""Retrieval finds the image itself where it is known, and averages where it is not."""

from dataclasses import replace

import torch

from fedsplit.attacks.nearest_neighbour import NearestNeighbour
from fedsplit.records.leak import Auxiliary, Pairs
from fedsplit.seeding import Seeds
from tests.attacks.leaks import case, noisy, useless


def test_a_target_among_the_auxiliary_images_is_found():
    leak = case(queries=False).leak
    assert leak.auxiliary_pairs is not None
    images, smashed = leak.auxiliary.images, leak.auxiliary_pairs.smashed
    known = replace(
        leak,
        smashed=smashed[:20],
        auxiliary=Auxiliary(images, leak.auxiliary.labels, images[20:60], leak.auxiliary.labels[20:60]),
        auxiliary_pairs=Pairs(smashed, smashed[20:60]),
    )
    guess = NearestNeighbour().reconstruct(known, Seeds(0)("attack"))
    torch.testing.assert_close(guess.images, images[:20])
    assert guess.evidence.settings.startswith("1 of 300 neighbours")


def test_the_guess_is_the_mean_of_the_k_nearest_by_brute_force():
    about = case()
    assert about.leak.smashed is not None
    assert about.leak.auxiliary_pairs is not None
    guess = NearestNeighbour(neighbours=(5,)).reconstruct(about.leak, Seeds(0)("attack"))
    assert guess.evidence.settings.startswith("5 of")
    references = about.leak.auxiliary_pairs.smashed.double()
    for target, image in zip(about.leak.smashed.double()[:10], guess.images[:10], strict=True):
        distances = (references - target).square().flatten(1).sum(dim=1)
        nearest = sorted(range(len(distances)), key=distances.tolist().__getitem__)[:5]
        torch.testing.assert_close(image, about.leak.auxiliary.images[nearest].mean(dim=0))


def test_from_nothing_it_chooses_all_images():
    about = case(release=useless)
    guess = NearestNeighbour(neighbours=(1, 2, 4, 8, 16)).reconstruct(about.leak, Seeds(0)("attack"))
    assert guess.evidence.settings.startswith("300 of 300")
    torch.testing.assert_close(guess.images, about.mean_image)


def test_more_neighbours_than_images_are_left_out():
    guess = NearestNeighbour(neighbours=(1000,)).reconstruct(case().leak, Seeds(0)("attack"))
    assert guess.evidence.settings.startswith("300 of 300")


def test_averaging_draws_helps_against_noise():
    about = case(release=noisy)
    errors = [
        about.error(NearestNeighbour(draws=draws).reconstruct(about.leak, Seeds(0)("attack")).images)
        for draws in (1, 16)
    ]
    assert errors[1] < errors[0]
