"""Regularised maximum likelihood, on clients of which it is known what can be recovered."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from fedsplit.attacks.likelihood import Likelihood, total_variation
from fedsplit.defenses.base import Defense
from fedsplit.defenses.dropout_at_cut import DropoutAtCut
from fedsplit.defenses.top_k import TopK
from fedsplit.records.images import Shape
from fedsplit.seeding import Seeds
from tests.attacks.leaks import COLOUR, GREY, Case, case, flat_client, map_client, noisy, rows_client, undefended

Client = Callable[[Shape], nn.Module]
PATIENT = Likelihood(steps=800, smoothness=(0,), judges=2)
QUICK = Likelihood(steps=120, smoothness=(0, 0.1, 1), judges=40)
ROUGH = Likelihood(steps=120, smoothness=(0,), judges=16)


def error(attack: Likelihood, about: Case) -> float:
    return about.error(attack.reconstruct(about.leak, Seeds(1)("attack")).images)


def settings(attack: Likelihood, about: Case) -> str:
    return attack.reconstruct(about.leak, Seeds(1)("attack")).evidence.settings


@pytest.mark.parametrize(("client", "shape"), [(map_client, GREY), (rows_client, GREY), (rows_client, COLOUR)])
def test_where_nothing_is_lost_the_image_itself_is_found(client: Client, shape: Shape) -> None:
    about = case(client, shape=shape, dtype=torch.float64)
    assert error(PATIENT, about) < 1e-6 * about.anchor


def test_what_the_client_loses_is_filled_in_by_smoothness() -> None:
    about = case(flat_client)
    assert "variation 0," not in settings(QUICK, about)
    assert error(QUICK, about) < 0.5 * error(ROUGH, about)


def test_against_noise_it_is_smoother_than_without() -> None:
    assert "variation 0," in settings(QUICK, case(map_client))
    assert error(QUICK, case(map_client, noisy)) < 0.7 * error(ROUGH, case(map_client, noisy))


def test_what_says_nothing_at_all_gives_the_mean_image() -> None:
    about = case(map_client, lambda smashed, rng: torch.zeros_like(smashed))
    assert error(ROUGH, about) <= 1.03 * about.anchor


def test_images_do_not_depend_on_each_other() -> None:
    about = case(flat_client)
    together, apart = (
        Likelihood(steps=60, batch_size=size).reconstruct(about.leak, Seeds(1)("attack")).images for size in (256, 7)
    )
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-4)


@pytest.mark.parametrize("defense", [TopK(share=0.3), DropoutAtCut(rate=0.5)], ids=lambda defense: defense.kind)
def test_a_known_defense_is_never_worse_than_an_unknown_one(defense: Defense) -> None:
    about = case(flat_client, defense.release)
    assert error(QUICK, told(about, defense)) < 1.02 * error(QUICK, about)


def test_what_a_defense_does_on_average_is_reckoned_with() -> None:
    # Half of the values are zero: what crosses is half of what the client computed, on average.
    about = case(flat_client, DropoutAtCut(rate=0.5).release)
    assert error(QUICK, told(about, DropoutAtCut(rate=0.5))) < 0.9 * error(QUICK, about)


@pytest.mark.parametrize("active", ["training", "inference"])
def test_only_what_is_released_where_it_looks_is_reckoned_with(active: Any) -> None:
    halved = Halved(active=active)
    for kind in ("training", "inference"):
        about = case(flat_client, halved.release if kind == active else undefended)
        seen = Case(replace(told(about, halved).leak, kind=kind), about.truth)
        assert error(QUICK, seen) < 0.5 * about.anchor


def told(about: Case, defense: Defense) -> Case:
    return Case(replace(about.leak, defense=defense), about.truth)


class Halved(Defense):
    """So far from what the client computes that who reckons with it wrongly finds nothing."""

    def release(self, smashed: Tensor, rng: Generator) -> Tensor:
        del rng
        return 0.5 - smashed


class Rounded(Defense):
    """To eighths, and deaf to gradients."""

    def release(self, smashed: Tensor, rng: Generator) -> Tensor:
        del rng
        return (8 * smashed.detach()).round() / 8


def test_a_release_without_gradient_is_passed_straight_through() -> None:
    about = case(map_client, Rounded().release)
    assert error(QUICK, told(about, Rounded())) < 0.1 * about.anchor


def test_total_variation_of_a_ramp_is_its_slope() -> None:
    ramp = torch.linspace(0, 1, 11, dtype=torch.float64).expand(2, 3, 11, 11)
    torch.testing.assert_close(total_variation(ramp), torch.full((2,), 0.1, dtype=torch.float64), rtol=1e-3, atol=0)
    tilted = (ramp + ramp.mT) / 2
    torch.testing.assert_close(total_variation(tilted)[0].item(), 0.1 / 2**0.5, rtol=1e-3, atol=0)
