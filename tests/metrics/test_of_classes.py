"""Metrics of guesses at classes against the same thing written with loops."""

import numpy as np
import pytest
import torch

from fedsplit.layers.evaluator import Evaluator, train_evaluator
from fedsplit.metrics.attack_accuracy import AttackAccuracy
from fedsplit.metrics.coverage import Coverage
from fedsplit.metrics.feature_distance import FeatureDistance
from fedsplit.metrics.kid import Kid
from fedsplit.records.truth import Truth
from fedsplit.seeding import Seeds
from tests.metrics.pictures import CLASSES, noisy, pictures

SHAPE = (1, 12, 12)


@pytest.fixture(scope="module")
def judge() -> Evaluator:
    return train_evaluator(pictures(300, SHAPE, seed=1), Seeds(0))


def about_classes(each: int = 12) -> Truth:
    private = pictures(150, SHAPE, seed=0)
    wanted = torch.arange(CLASSES).repeat_interleave(each)
    rows = torch.cat([(private.labels == label).nonzero().squeeze(1)[:each] for label in range(CLASSES)])
    return Truth(private.pixels[rows], wanted, (private.pixels, private.labels))


def test_attack_accuracy_counts_what_the_evaluator_names(judge: Evaluator):
    truth, guess = about_classes(), noisy(about_classes().images, 0.1)
    order = judge.logits(guess).argsort(dim=1, descending=True)
    for top in (1, 5):
        expected = [float(int(label) in row[:top].tolist()) for label, row in zip(truth.labels, order, strict=True)]
        assert AttackAccuracy(top=top).measure(truth, guess, judge).values.tolist() == expected
    first = AttackAccuracy().measure(truth, guess, judge)
    assert 0.5 < first.statistic(first.values) <= 1


def test_feature_distance_is_to_the_nearest_private_image_of_the_class(judge: Evaluator):
    truth, guess = about_classes(), noisy(about_classes().images, 0.2)
    assert truth.population is not None
    private, labels = judge.features(truth.population[0]).double().numpy(), truth.population[1].numpy()
    expected = [
        min(np.square(own - row).sum() for own in private[labels == label]) / len(row)
        for label, row in zip(truth.labels.numpy(), judge.features(guess).double().numpy(), strict=True)
    ]
    found = FeatureDistance().measure(truth, guess, judge).values
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_coverage_is_of_private_images_by_their_neighbours(judge: Evaluator):
    truth, guess = about_classes(), noisy(about_classes().images.roll(2, 0), 0.05)
    private, guessed = (judge.features(images).double().numpy() for images in (truth.images, guess))
    expected: list[float] = []
    for index, label in enumerate(truth.labels.numpy()):
        own = np.flatnonzero(truth.labels.numpy() == label)
        near = np.sort([np.linalg.norm(private[index] - private[other]) for other in own if other != index])
        expected.append(float(min(np.linalg.norm(private[index] - guessed[other]) for other in own) <= near[2]))
    assert Coverage().measure(truth, guess, judge).values.tolist() == expected
    assert 0 < sum(expected) < len(expected)


def test_one_image_again_and_again_covers_little(judge: Evaluator):
    truth = about_classes()
    one = truth.images[:: len(truth.images) // CLASSES][:CLASSES].repeat_interleave(12, 0)
    other = pictures(400, SHAPE, seed=9)
    kind = torch.cat([other.pixels[other.labels == label][:12] for label in range(CLASSES)])
    repeated, varied = (float(Coverage().measure(truth, guess, judge).values.mean()) for guess in (one, kind))
    assert repeated < varied


def test_guesses_are_asked_for_in_any_number(judge: Evaluator):
    # More than there are private images, which then repeat.
    few, many = about_classes(), about_classes()
    times = 6
    repeated = torch.arange(CLASSES * 12).view(CLASSES, 12).repeat(1, times).flatten()
    assert few.population is not None
    many = Truth(few.images[repeated], few.labels[repeated], few.population)
    other = noisy(few.images, 0.1)
    first, again = (
        Coverage().measure(truth, guess, judge).values for truth, guess in ((few, other), (many, other[repeated]))
    )
    assert 0 < float(first.mean()) < 1
    assert torch.equal(again, first[repeated])


def test_kid_does_not_care_who_is_beside_whom(judge: Evaluator):
    truth, guess = about_classes(), noisy(about_classes().images, 0.3)
    straight, moved = (Kid().measure(truth, some, judge) for some in (guess, guess.flip(0)))
    assert straight.statistic(straight.values) == pytest.approx(moved.statistic(moved.values), rel=1e-6)
