import math
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from torch import Tensor
from torch.nn import functional as F

from fedsplit.errors import EngineError
from fedsplit.layers.evaluator import Evaluator
from fedsplit.metrics.base import Measurement, Metric
from fedsplit.metrics.mse import Mse
from fedsplit.metrics.psnr import Psnr
from fedsplit.records.leak import Auxiliary
from fedsplit.records.truth import Truth
from fedsplit.scoring import MEAN_IMAGE, Scoreboard, anchors, mean_image, nearest, of_classes
from fedsplit.seeding import Seeds

SHAPE = (2, 5, 4)


def images(count: int, name: str) -> Tensor:
    return torch.rand(count, *SHAPE, generator=Seeds(3)(name))


def made(targets: int = 9, dtype: torch.dtype = torch.float32) -> tuple[Truth, Auxiliary]:
    """Targets of four classes; the adversary's images have but three of them."""
    truth = Truth(images(targets, "truth").to(dtype), torch.arange(targets) % 4)
    known = images(30, "known").to(dtype)
    return truth, Auxiliary(known, torch.arange(30) % 3, known[:4], torch.arange(4) % 3)


def board(truth: Truth, *metrics: Metric) -> Scoreboard:
    return Scoreboard(metrics or (Psnr(), Mse()), truth, None, Seeds(1))


class Brightness(Metric):
    """The mean of the guess, as it was handed over."""

    unit: ClassVar[str] = ""
    more_leaks: ClassVar[Literal["higher", "lower"]] = "lower"

    fails: bool = False

    def measure(self, truth: Truth, guess: Tensor, evaluator: Evaluator | None) -> Measurement:
        assert guess.dtype == truth.images.dtype and float(guess.min()) >= 0 and float(guess.max()) <= 1
        values = guess.flatten(1).mean(dim=1)
        return Measurement(values, _refuses if self.fails else _mean)


def _mean(values: Tensor) -> float:
    return float(values.double().mean())


def _refuses(values: Tensor) -> float:
    raise ArithmeticError("not\nwith me")


# Anchors against their definitions


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_anchors_are_what_they_are_called(dtype: torch.dtype) -> None:
    truth, auxiliary = made(dtype=dtype)
    found = anchors(truth, auxiliary, auxiliary, torch.Generator())
    assert set(found) == {MEAN_IMAGE, "class_mean_oracle", "nearest_auxiliary_oracle"}
    for row, (target, label) in enumerate(zip(truth.images, truth.labels.tolist(), strict=True)):
        overall = torch.stack(list(auxiliary.images)).sum(dim=0) / 30
        assert torch.allclose(found[MEAN_IMAGE][row], overall)
        # Of a class that the adversary has never seen, the mean over all is the best guess.
        of_class = [
            image for image, own in zip(auxiliary.images, auxiliary.labels.tolist(), strict=True) if own == label
        ]
        expected = torch.stack(of_class).sum(dim=0) / len(of_class) if of_class else overall
        assert torch.allclose(found["class_mean_oracle"][row], expected)
        errors = [float((image - target).square().mean()) for image in auxiliary.images]
        assert torch.equal(found["nearest_auxiliary_oracle"][row], auxiliary.images[errors.index(min(errors))])
        assert float(nearest(truth, auxiliary)[0][row]) == pytest.approx(min(errors) ** 0.5, rel=1e-4)


def test_where_classes_are_rebuilt_the_oracle_is_held_out_real_images_of_them() -> None:
    truth, auxiliary = made()
    about = Truth(truth.images, truth.labels, (truth.images, truth.labels))
    found = anchors(about, auxiliary, auxiliary, torch.Generator().manual_seed(0))
    assert set(found) == {MEAN_IMAGE, "class_mean_oracle", "real_images_oracle"}
    known = {int(label) for label in auxiliary.labels}
    for image, label in zip(found["real_images_oracle"], truth.labels.tolist(), strict=True):
        rows = [row for row, own in enumerate(auxiliary.images) if torch.equal(own, image)]
        assert rows and (label not in known or int(auxiliary.labels[rows[0]]) == label)


def test_rows_of_classes_repeat_only_when_all_were_used() -> None:
    labels = torch.tensor([0, 1, 0, 1, 0, 2])
    wanted = torch.tensor([1, 0, 0, 1, 1, 0, 0, 3])
    rows = of_classes(labels, wanted, torch.Generator().manual_seed(1))
    assert labels[rows[:7]].tolist() == wanted[:7].tolist()
    assert sorted(rows[[1, 2, 5]].tolist()) == [0, 2, 4] and len(set(rows[[0, 3, 4]].tolist())) == 2
    assert 0 <= int(rows[7]) < 6


def test_a_target_that_the_adversary_also_has_is_at_distance_nothing() -> None:
    truth, auxiliary = made()
    known = Auxiliary(truth.images.flip(0), truth.labels, auxiliary.validation_images, auxiliary.validation_labels)
    distances, found = nearest(truth, known)
    assert torch.equal(found, truth.images)
    assert distances.tolist() == pytest.approx([0] * 9, abs=1e-3)


def test_no_constant_guess_has_less_squared_error_than_the_mean_image_of_the_targets() -> None:
    truth, _ = made()
    own = Auxiliary(truth.images, truth.labels, truth.images[:2], truth.labels[:2])
    least = F.mse_loss(mean_image(truth, own), truth.images)
    for name in map(str, range(20)):
        assert F.mse_loss(images(1, name).expand_as(truth.images), truth.images) > least


# Scores


def test_a_score_is_the_metric_with_its_interval_unit_and_direction() -> None:
    truth, _ = made()
    score = board(truth).score(Mse(), truth.images + 0.1 * truth.images.round().mul(-2).add(1))
    assert score.mean == pytest.approx(0.01, rel=1e-4) and score.more_leaks == "lower" and score.unit == ""
    assert score.low == pytest.approx(0.01, rel=1e-4) and score.high == pytest.approx(0.01, rel=1e-4)
    guess = images(9, "guess")
    scores = board(truth).scores(guess)
    assert set(scores) == {"psnr", "mse"} and scores["psnr"].unit == "dB"
    assert scores["mse"].mean == pytest.approx(F.mse_loss(guess, truth.images).item(), rel=1e-5)
    for score in scores.values():
        assert score.low is not None and score.mean is not None and score.high is not None
        assert score.low < score.mean < score.high
    assert board(truth).means(guess) == {name: score.mean for name, score in scores.items()}
    assert board(truth).scores(guess) == scores, "the bootstrap is drawn from the board's own stream"


def test_guesses_at_classes_have_an_interval_over_classes_unless_these_are_given() -> None:
    truth, _ = made(48)
    guess = (truth.labels / 3).view(-1, 1, 1, 1).expand_as(truth.images)
    of_images, of_classes = (
        board(replace(truth, population=population), Brightness())
        for population in (None, (truth.images, truth.labels))
    )
    narrow, wide = (one.score(Brightness(), guess) for one in (of_images, of_classes))
    assert of_classes.score(Brightness(), guess, given_classes=True) == narrow
    assert wide.mean == narrow.mean == pytest.approx(0.5)
    # Four draws from {0, 1/3, 2/3, 1}: the ends of a mean have probability 1/256, the next ones 4/256, 10/256.
    assert (wide.low, wide.high) == (pytest.approx(1 / 6), pytest.approx(5 / 6))
    assert narrow.low is not None and narrow.low > 0.35


@settings(max_examples=25)
@given(st.floats(-5, 5), st.floats(0.1, 5))
def test_images_are_clamped_for_every_metric_and_left_alone_otherwise(shift: float, scale: float) -> None:
    truth, auxiliary = made()
    guess = images(9, "guess") * scale + shift
    kept = guess.clone()
    bench = board(truth, Brightness(), Mse())
    assert bench.means(guess) == bench.means(guess.clamp(0, 1)) == bench.means(guess.double())
    shown = bench.exhibit(Mse(), guess, auxiliary, guess).reconstruction
    assert float(shown.min()) >= 0 and float(shown.max()) <= 1
    assert torch.equal(guess, kept)


@pytest.mark.parametrize("odd", [math.nan, -math.nan])
@pytest.mark.parametrize("rows", [1, 9])
def test_what_is_not_finite_has_no_score(odd: float, rows: int) -> None:
    truth, _ = made()
    guess = truth.images.clone()
    guess[:rows, 0, 0, 0] = odd
    score = board(truth).score(Mse(), guess)
    assert (score.mean, score.low, score.high) == (None, None, None)
    assert board(truth).means(guess) == {"psnr": None, "mse": None}


@pytest.mark.parametrize("odd", [math.inf, -math.inf])
def test_what_is_infinite_is_clamped(odd: float) -> None:
    truth, _ = made()
    guess = torch.full_like(truth.images, odd)
    assert board(truth).scores(guess) == board(truth).scores(torch.full_like(guess, float(odd > 0)))


def test_a_metric_or_a_statistic_that_fails_is_named_in_one_line() -> None:
    truth, _ = made()
    with pytest.raises(EngineError) as caught:
        board(truth).score(Brightness(fails=True), truth.images)
    assert str(caught.value).startswith("metric tests.test_scoring:Brightness: failed (ArithmeticError: not with me)")
    with pytest.raises(EngineError, match=r"Brightness: failed \(ArithmeticError"):
        board(truth, Brightness(fails=True)).means(truth.images)
    with pytest.raises(EngineError, match=r"metric psnr: failed \(RuntimeError"):
        board(truth).scores(images(8, "guess"))


# Pictures


@pytest.mark.parametrize("targets", [1, 2, 3, 8, 9])
@pytest.mark.parametrize("headline", [Psnr(), Mse()])
def test_the_pictures_are_the_best_the_median_and_the_worst(targets: int, headline: Metric) -> None:
    truth, auxiliary = made(targets)
    guess = images(targets, "guess") * 1.5
    exhibit = board(truth).exhibit(headline, guess, auxiliary, guess)
    values = dict(exhibit.values)[headline.name]
    leaks = (values if headline.more_leaks == "higher" else -values).tolist()
    best, middle, worst = exhibit.picks
    assert leaks[best] == max(leaks) and leaks[worst] == min(leaks)
    assert sum(leak > leaks[middle] for leak in leaks) == targets // 2
    order = list(exhibit.picks)
    assert torch.equal(exhibit.private, truth.images[order])
    assert torch.equal(exhibit.reconstruction, guess[order].clamp(0, 1))
    assert torch.allclose(exhibit.anchor, auxiliary.images.mean(dim=0).expand(3, *SHAPE))
    assert [name for name, _ in exhibit.values] == ["psnr", "mse"]
    assert dict(exhibit.values)["mse"].tolist() == pytest.approx(
        [float((one.clamp(0, 1) - two).square().mean()) for one, two in zip(guess, truth.images, strict=True)], rel=1e-5
    )
    assert torch.equal(exhibit.nearest, nearest(truth, auxiliary)[0])


def test_the_map_is_of_what_was_released_and_has_the_true_class_of_every_target() -> None:
    truth, auxiliary = made()
    smashed = images(9, "smashed").double()
    exhibit = board(truth).exhibit(Mse(), truth.images, auxiliary, smashed)
    assert exhibit.labels.tolist() == truth.labels.tolist()
    expected = PCA(8, svd_solver="full").fit_transform(smashed.flatten(1).numpy())
    assert exhibit.map.shape == (9, 30)
    assert np.allclose(exhibit.map[:, :8].abs(), abs(expected), atol=1e-5)
    assert not exhibit.map[:, 8:].any(), "nine images span eight directions"


def test_the_map_has_the_axes_of_what_would_have_been_seen_where_that_is_something_else() -> None:
    truth, auxiliary = made()
    clean, smashed = images(9, "clean").double(), images(9, "smashed").double()
    exhibit = board(truth).exhibit(Mse(), truth.images, auxiliary, smashed, clean)
    reference = PCA(8, svd_solver="full").fit(clean.flatten(1).numpy())
    assert exhibit.clean is not None
    for found, values in ((exhibit.clean, clean), (exhibit.map, smashed)):
        expected = reference.transform(values.flatten(1).numpy())
        assert np.allclose(found[:, :8].abs(), abs(expected), atol=1e-5)
    same = board(truth).exhibit(Mse(), truth.images, auxiliary, smashed, smashed.clone())
    assert same.clean is None
    assert torch.equal(same.map, board(truth).exhibit(Mse(), truth.images, auxiliary, smashed).map)


def test_ties_are_picked_in_the_order_of_targets() -> None:
    truth, auxiliary = made()
    assert board(truth).exhibit(Mse(), truth.images, auxiliary, truth.images).picks == (0, 4, 8)
