"""The judge learns what can be learned, knows how well it does, and is the same for the same seeds."""

import math
from dataclasses import replace

import pytest
import torch

from fedsplit.errors import DataError
from fedsplit.layers.evaluator import FEATURES, Evaluator, train_evaluator
from fedsplit.records.images import Images
from fedsplit.seeding import Seeds
from tests.metrics.pictures import pictures


@pytest.fixture(scope="module")
def images() -> Images:
    return pictures(200, (1, 12, 12), seed=0)


@pytest.fixture(scope="module")
def evaluator(images: Images) -> Evaluator:
    return train_evaluator(images, Seeds(0))


def accuracy(evaluator: Evaluator, images: Images) -> float:
    guesses = evaluator.head(evaluator.features(images.pixels)).argmax(1)
    return float((guesses == images.labels).float().mean())


def test_it_learns_and_its_own_accuracy_is_that_on_fresh_images(evaluator: Evaluator):
    fresh = accuracy(evaluator, pictures(400, (1, 12, 12), seed=9))
    assert fresh > 0.8
    # 40 rows were held out: three standard errors of a proportion.
    assert evaluator.accuracy == pytest.approx(fresh, abs=3 * math.sqrt(0.25 / 40))


def test_labels_that_mean_nothing_are_not_predicted(images: Images):
    shuffled = replace(images, labels=images.labels[torch.randperm(200, generator=torch.Generator().manual_seed(1))])
    assert train_evaluator(shuffled, Seeds(0)).accuracy < 0.6


def test_the_same_seeds_give_the_same_judge_and_the_global_stream_is_left_alone(images: Images, evaluator: Evaluator):
    before = torch.random.get_rng_state()
    again, other = train_evaluator(images, Seeds(0)), train_evaluator(images, Seeds(1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(again.features(images.pixels), evaluator.features(images.pixels))
    assert not torch.equal(other.features(images.pixels), evaluator.features(images.pixels))


def test_it_is_frozen_and_sees_each_image_alone(images: Images, evaluator: Evaluator):
    assert not any(
        parameter.requires_grad for parameter in (*evaluator.body.parameters(), *evaluator.head.parameters())
    )
    assert not evaluator.body.training
    together = evaluator.features(images.pixels.repeat(3, 1, 1, 1))
    assert together.shape == (600, FEATURES)
    torch.testing.assert_close(together[[555]], evaluator.features(images.pixels[[155]]))


def test_near_duplicates_are_never_parted():
    # Every image twice in one group: if a group were parted, the held-out twin would be known by heart.
    single = pictures(60, (1, 8, 8), seed=0)
    nonsense = replace(single, labels=torch.arange(60) % 3)
    twins = nonsense.at(torch.arange(60).repeat(2))
    assert train_evaluator(twins, Seeds(0)).accuracy < 0.7


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 64, 64), (3, 20, 9)])
def test_every_shape(shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fedsplit.layers.evaluator._LEAST_STEPS", 10)
    images = pictures(30, shape, seed=0)
    features = train_evaluator(images, Seeds(0)).features(images.pixels)
    assert features.shape == (30, FEATURES)
    assert features.isfinite().all()
    # Standardised over rows like these.
    assert 0.3 < float(features.std(0).mean()) < 3


@pytest.mark.parametrize("count", [1, 2, 4])
def test_very_few_images(count: int):
    images = pictures(count, (1, 8, 8), seed=0)
    evaluator = train_evaluator(images, Seeds(0))
    assert math.isnan(evaluator.accuracy)
    assert evaluator.features(images.pixels).isfinite().all()


def test_no_images_are_refused():
    with pytest.raises(DataError, match=r"roles\.evaluation"):
        train_evaluator(pictures(0, (1, 8, 8), seed=0), Seeds(0))
