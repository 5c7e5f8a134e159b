"""Re-identification on galleries where the answer is known, and the bits that Fano's inequality grants it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedsplit.layers.evaluator import Evaluator
from fedsplit.metrics.reidentification import Reidentification
from fedsplit.records.truth import Truth
from tests.metrics.pictures import noisy, pictures


def hits(truth: Tensor, guess: Tensor) -> list[float]:
    labels = torch.zeros(len(truth), dtype=torch.int64)
    return Reidentification().measure(Truth(truth, labels), guess, None).values.tolist()


def test_agrees_with_every_distance_taken_one_by_one():
    truth = pictures(40, (3, 8, 8), seed=0).pixels
    guess = noisy(truth, 0.6)
    distances = [[float((true - guessed).double().square().sum()) for true in truth] for guessed in guess]
    expected = [float(min(row) == row[number]) for number, row in enumerate(distances)]
    assert hits(truth, guess) == expected
    assert 0 < sum(expected) < 40


def test_guesses_that_are_all_alike_score_one_in_n():
    truth = pictures(50, (1, 8, 8), seed=0).pixels
    assert sum(hits(truth, truth.mean(0, keepdim=True).expand_as(truth))) == pytest.approx(1)


def test_targets_that_are_all_alike_score_one_in_n():
    truth = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)).expand(50, 1, 8, 8)
    assert hits(truth, truth) == pytest.approx([1 / 50] * 50)


def test_one_grey_level_in_one_pixel_is_no_tie():
    truth = torch.ones(2, 1, 28, 28)
    truth[1, 0, 3, 3] -= 1 / 255
    assert hits(truth, truth) == [1, 1]


@given(shift=st.integers(1, 29))
@settings(max_examples=10)
def test_another_ones_image_is_no_hit(shift: int):
    truth = pictures(30, (1, 8, 8), seed=0).pixels
    assert sum(hits(truth, truth.roll(shift, 0))) == 0


def test_more_targets_than_a_batch():
    truth = torch.rand(1100, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    assert hits(truth, truth) == [1] * 1100


def test_fanos_bound_holds_on_a_channel_whose_information_is_known():
    # The guess is the image itself with probability 1/2 and else any other: information and rate in closed form.
    count, rate = 256, 0.5
    information = math.log2(count) + rate * math.log2(rate) + (1 - rate) * math.log2((1 - rate) / (count - 1))
    truth = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    guess = truth.clone()
    guess[: count // 2] = truth[: count // 2].roll(1, 0)
    measured = sum(hits(truth, guess)) / count
    assert measured == rate
    assert measured * math.log2(count) - 1 <= information


def test_features_judge_by_what_the_evaluator_sees():
    # An evaluator that sees the first pixel alone.
    body = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False))
    body[1].weight.data = torch.tensor([[1.0, 0, 0, 0]])
    evaluator = Evaluator(body, nn.Identity(), 1.0)
    truth = torch.rand(20, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    guess = torch.rand(20, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    guess[:, 0, 0, 0] = truth[:, 0, 0, 0]
    metric = Reidentification(by="features")
    found = metric.measure(Truth(truth, torch.zeros(20, dtype=torch.int64)), guess, evaluator)
    assert found.values.tolist() == [1] * 20
    assert (metric.evaluated, metric.name) == (True, "reidentification_features")
    assert (Reidentification().evaluated, Reidentification().name) == (False, "reidentification_pixels")
