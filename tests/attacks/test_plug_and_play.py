"""Plug-and-Play on a model whose classes are known: the angles of a bar."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from fedsplit.attacks.plug_and_play import PlugAndPlay
from fedsplit.numerics.fingerprint import fingerprint
from fedsplit.records.leak import Leak
from fedsplit.records.reconstruction import Reconstruction
from fedsplit.seeding import Seeds
from tests.attacks.makers import CLASSES, SHAPE, SMALL, bar_model, class_leak, made


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return bar_model()


def attacked(leak: Leak, **settings: Any) -> Reconstruction:
    return PlugAndPlay(**(SMALL | settings)).reconstruct(leak, Seeds(3)("attack"))


def accuracy(images: Tensor, wanted: Tensor) -> float:
    """By the nearest of many bars of known kinds: no network is asked."""
    known, labels = made(3000, 20)
    nearest = torch.cdist(images.flatten(1), known.flatten(1)).argmin(dim=1)
    return float((labels[nearest] == wanted).double().mean())


@pytest.mark.parametrize("weights", [True, False])
def test_it_finds_images_of_every_class(model: nn.Module, weights: bool):
    leak = class_leak(model, weights=weights)
    found = attacked(leak)
    assert leak.wanted is not None and found.unguided is not None
    assert found.images.shape == (18, *SHAPE) == found.unguided.shape
    assert accuracy(found.images, leak.wanted) > 0.9
    assert accuracy(found.unguided, leak.wanted) < 0.6
    assert found.evidence.before != found.evidence.after
    assert min(found.evidence.losses[1:]) < 0.9 * found.evidence.losses[0]
    assert len(found.evidence.losses) == 13


def test_images_are_in_the_order_that_was_asked_for(model: nn.Module):
    leak = class_leak(model, weights=True)
    assert leak.wanted is not None
    order = torch.randperm(18, generator=torch.Generator().manual_seed(0))
    moved = leak.permuted(order)
    assert moved.wanted is not None
    assert accuracy(attacked(moved).images, moved.wanted) > 0.9


def test_moving_brings_images_nearer_to_their_class_than_choosing_alone(model: nn.Module):
    leak = class_leak(model, weights=True)
    losses = attacked(leak, candidates=12, starts=12, steps=30).evidence.losses
    assert losses[-1] < 0.9 * losses[1]


class Blind(nn.Module):
    """The same logits for every image, without looking at it."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.arange(float(CLASSES)))

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.expand(len(images), -1)


def test_a_model_that_does_not_look_at_the_image_leads_nowhere_and_stops_nothing():
    found = attacked(class_leak(Blind(), weights=True))
    assert bool(found.images.isfinite().all())
    assert found.evidence.before == found.evidence.after, "nothing said where to move"


def test_it_changes_nothing_it_was_handed(model: nn.Module):
    before, state = fingerprint(model), torch.get_rng_state()
    attacked(class_leak(model, weights=True))
    assert fingerprint(model) == before and all(one.grad is None for one in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_same_stream_gives_the_same_images(model: nn.Module):
    leak = class_leak(model, weights=True)
    assert torch.equal(attacked(leak).images, attacked(leak).images)


def test_it_looks_at_nothing_but_the_answers_where_it_has_no_weights(model: nn.Module):
    leak = class_leak(model, weights=False)
    asked: list[int] = []

    def scores(some: Tensor, rng: torch.Generator) -> Tensor:
        assert not some.requires_grad
        asked.append(len(some))
        return torch.ones(len(some), CLASSES) / CLASSES

    found = attacked(replace(leak, scores=scores))
    assert sum(asked) > 600 and leak.wanted is not None
    assert accuracy(found.images, leak.wanted) < 0.7, "answers that say nothing lead nowhere"


def test_mirrors_are_views_only_where_the_model_takes_them_for_the_same(model: nn.Module):
    assert "no view mirrored" in attacked(class_leak(model, weights=True)).evidence.settings

    class Blind(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            rows = images.mean(dim=(1, 3))
            return torch.stack([rows[:, :4].sum(1), rows[:, 4:8].sum(1), rows[:, 8:].sum(1)], dim=1)

    assert "views mirrored or not" in attacked(class_leak(Blind(), weights=True)).evidence.settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"per_class": 20}, "must not fall in this order: 20, 12, 150"),
        ({"starts": 300}, "must not fall in this order: 6, 300, 150"),
        ({"crop_area": (1.0, 0.5)}, "`crop_area` begins above its end: 1 > 0.5"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], words: str):
    with pytest.raises(ValidationError, match=words):
        PlugAndPlay(**(SMALL | settings))
