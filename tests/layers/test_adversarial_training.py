from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor, nn

from fedsplit.errors import EngineError
from fedsplit.layers import adversarial_training
from fedsplit.layers.adversarial_training import AdversarialTraining
from fedsplit.layers.image_critic import ImageCritic
from fedsplit.layers.sample_quality import SampleQuality
from fedsplit.layers.synthesizer import Progress, Synthesizer, nothing
from fedsplit.layers.transposed_synthesizer import TransposedSynthesizer
from fedsplit.numerics.fingerprint import fingerprint
from fedsplit.seeding import Seeds
from tests.metrics.pictures import pictures

SHAPE = (1, 8, 8)
IMAGES = pictures(240, SHAPE, seed=0).pixels
QUICK = AdversarialTraining(steps=12, batch_size=4, rate=0.002, critic_rate=0.002, momenta=(0.5, 0.99), evaluations=6)


def pair() -> tuple[Synthesizer, nn.Module]:
    with Seeds(0).fork("weights"):
        return TransposedSynthesizer(SHAPE, 8, 4), ImageCritic(SHAPE, 4)


def trained(how: AdversarialTraining, images: Tensor = IMAGES, reports: list[Progress] | None = None) -> Synthesizer:
    tell = nothing if reports is None else reports.append
    return how.run(*pair(), images, None, Seeds(0), tell)


def at_most(steps: int) -> AdversarialTraining:
    return replace(QUICK, steps=steps, evaluations=steps)


def test_samples_come_nearer_to_images_that_were_held_out() -> None:
    how = replace(QUICK, steps=120, batch_size=8, penalty=1.0, averaging=0.98, patience=99)
    with Seeds(1).fork("quality"):
        quality = SampleQuality(pictures(240, SHAPE, seed=1).pixels)
    before, after = pair()[0].eval(), trained(how)
    distances = [quality.distance(each.sample(240, Generator().manual_seed(0))) for each in (before, after)]
    assert distances[1] < 0.2 * distances[0]
    assert after.sample(50, Generator().manual_seed(0)).flatten(1).std(dim=0).mean() > 0.3 * IMAGES.std(dim=0).mean()


def test_quality_is_none_on_more_of_the_same_and_worse_on_blurred_or_identical_images() -> None:
    with Seeds(1).fork("quality"):
        quality = SampleQuality(IMAGES)
    others = pictures(240, SHAPE, seed=1).pixels
    same = quality.distance(others)
    assert abs(same) < 0.05
    glued = torch.cat([others[..., :4], others.roll(1, 0)[..., 4:]], dim=3)
    for worse in (others.flip(2), others[:1].expand_as(others), nn.functional.avg_pool2d(others, 3, 1, 1), glued):
        assert quality.distance(worse) > 2 * abs(same)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    distances: list[float] = []
    monkeypatch.setattr(SampleQuality, "distance", lambda self, samples: distances.pop(0))  # pyright: ignore
    monkeypatch.setattr(SampleQuality, "of_one_image", lambda self: 5.0)  # pyright: ignore
    return distances


def test_the_best_weights_are_returned_and_patience_ends_the_training(judged: list[float]) -> None:
    judged += [3.0, 1.0, 2.0, 1.0, 2.0, 0.0]
    reports: list[Progress] = []
    found = trained(replace(QUICK, averaging=0.5, patience=3), reports=reports)
    assert [report.quality for report in reports] == [3.0, 1.0, 2.0, 1.0, 2.0], "a tie is no improvement"
    judged[:] = [3.0, 1.0]
    ended = trained(replace(QUICK, steps=4, evaluations=2, averaging=0.5, patience=3))
    assert fingerprint(found) == fingerprint(ended), "the weights after the second look"


def test_a_training_that_diverges_is_begun_again_at_a_third_of_the_rate_and_the_best_weights_of_all_count(
    judged: list[float],
) -> None:
    how = replace(QUICK, averaging=0.5, patience=2)
    judged += [3.0, 4.0, 6.0, 4.0, 2.0, 6.0, 5.0, 3.0, 6.0, 6.0]
    reports: list[Progress] = []
    found = trained(how, reports=reports)
    assert not judged, "three attempts, and no more"
    assert [report.quality for report in reports] == [3.0, 4.0, 6.0, 4.0, 2.0, 6.0, 5.0, 3.0, 6.0, 6.0]
    rates = [0.002] * 3 + [0.002 / 3] * 4 + [0.002 / 9] * 3
    assert [report.rate for report in reports] == pytest.approx(rates)
    judged[:] = [4.0, 2.0]
    slower = replace(how, steps=4, evaluations=2, rate=0.002 / 3, critic_rate=0.002 / 3)
    assert fingerprint(found) == fingerprint(trained(slower)), "all random numbers are the first attempt's"


def test_a_training_that_ends_near_its_images_or_was_still_learning_is_not_begun_again(judged: list[float]) -> None:
    how = replace(QUICK, averaging=0.5, patience=2)
    for distances in ([3.0, 9.0, 4.9], [9.0, 8.0, 7.0, 6.0, 8.0, 5.5], [9.0, 8.0, 7.0, 6.0, 5.5, 9.0]):
        judged[:] = distances
        reports: list[Progress] = []
        trained(how, reports=reports)
        assert [report.quality for report in reports] == distances
        assert {report.rate for report in reports} == {0.002}


def test_a_rate_at_which_all_goes_wrong_comes_to_images_all_the_same() -> None:
    wild = replace(QUICK, steps=60, batch_size=8, rate=0.1, critic_rate=0.1, penalty=1.0, averaging=0.9, patience=3)
    wild = replace(wild, evaluations=20)
    reports: list[Progress] = []
    trained(wild, reports=reports)
    by_rate = {rate: [report.quality or 0.0 for report in reports if report.rate == rate] for rate in (0.1, 0.1 / 3)}
    assert min(by_rate[0.1]) > 5
    assert min(by_rate[0.1 / 3]) < 1


def test_many_of_one_image_are_farther_than_other_images_and_nearer_than_noise() -> None:
    with Seeds(1).fork("quality"):
        quality = SampleQuality(IMAGES)
    noise = torch.rand(IMAGES.shape, generator=Generator().manual_seed(0))
    repeated = quality.of_one_image()
    assert 10 * abs(quality.distance(pictures(240, SHAPE, seed=1).pixels)) < repeated < quality.distance(noise)
    with Seeds(1).fork("quality"):
        first = SampleQuality(IMAGES[:1].expand(30, -1, -1, -1))
    assert first.of_one_image() == pytest.approx(first.distance(IMAGES[:1].expand(30, -1, -1, -1)))


def test_without_patience_nothing_is_held_out_and_the_last_weights_count() -> None:
    reports: list[Progress] = []
    trained(QUICK, reports=reports)
    assert [report.quality for report in reports] == [None] * 6
    few: list[Progress] = []
    trained(replace(QUICK, patience=1), IMAGES[:40], few)
    assert [report.quality for report in few] == [None] * 6, "too few images to hold any out"


def test_images_that_are_held_out_are_not_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    how = replace(QUICK, patience=99)
    learned, held_out = how._parted(len(IMAGES), Seeds(0)("held out"))  # pyright: ignore[reportPrivateUsage]
    assert len(held_out) == 24 and sorted([*learned.tolist(), *held_out.tolist()]) == list(range(240))
    monkeypatch.setattr(SampleQuality, "__init__", lambda self, images: None)  # pyright: ignore
    monkeypatch.setattr(SampleQuality, "distance", lambda self, samples: 1.0)  # pyright: ignore
    changed = IMAGES.clone()
    changed[held_out] = 0.5
    assert fingerprint(trained(how)) == fingerprint(trained(how, changed))
    changed[learned[:100]] = 0.5
    assert fingerprint(trained(how)) != fingerprint(trained(how, changed))


def test_the_critic_takes_so_many_steps_before_each_of_the_generator() -> None:
    calls: list[str] = []

    class Counted(ImageCritic):
        def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
            calls.append("learns" if self.head.weight.requires_grad else "is asked")
            return super().forward(images, labels)

    synthesizer, _ = pair()
    replace(QUICK, steps=2, critic_steps=3).run(synthesizer, Counted(SHAPE, 4), IMAGES, None, Seeds(0), nothing)
    assert calls == ([*["learns"] * 6, "is asked"]) * 2


def test_the_penalty_flattens_the_critic_at_real_images() -> None:
    def slope(penalty: float, every: int) -> float:
        synthesizer, critic = pair()
        how = replace(at_most(30), batch_size=8, penalty=penalty, penalty_every=every)
        how.run(synthesizer, critic, IMAGES, None, Seeds(0), nothing)
        images = IMAGES.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(critic(images).sum(), images)
        return float(gradient.flatten(1).norm(dim=1).mean())

    free = slope(0.0, 1)
    assert slope(30.0, 1) < 0.5 * free
    assert slope(30.0, 4) < 0.5 * free


def test_averaged_weights_lag_behind_the_last_ones() -> None:
    synthesizer, critic = pair()
    start = fingerprint(synthesizer)
    found = replace(QUICK, averaging=0.9).run(synthesizer, critic, IMAGES, None, Seeds(0), nothing)
    assert len({start, fingerprint(found), fingerprint(synthesizer)}) == 3
    alone, critic = pair()
    QUICK.run(alone, critic, IMAGES, None, Seeds(0), nothing)
    synthesizer.mean_style.copy_(alone.mean_style)
    assert fingerprint(alone) == fingerprint(synthesizer), "the mean is only looked at"


def test_disguised_images_are_shifted_and_have_a_hole() -> None:
    images = torch.arange(1.0, 401).view(1, 1, 20, 20).repeat(200, 1, 1, 1).requires_grad_()
    with Seeds(0).fork("disguise"):
        found = adversarial_training._disguised(images)  # pyright: ignore[reportPrivateUsage]
    assert found.shape == images.shape
    shifts: set[int] = set()
    for image in found.detach()[:, 0]:
        seen = image > 0
        # Whatever is left moved by the same number of rows and columns.
        moved = (image - torch.arange(1.0, 401).view(20, 20))[seen].unique()
        assert len(moved) == 1
        shifts.add(int(moved))
    assert len(shifts) > 15
    assert 0.02 < float((found == 0).double().mean()) < 0.35
    (gradient,) = torch.autograd.grad(found.sum(), images)
    assert set(gradient.unique().tolist()) == {0.0, 1.0}


def test_what_diverges_is_said_in_one_line() -> None:
    with pytest.raises(EngineError, match="no longer finite; lower the generator's rate"):
        trained(replace(QUICK, rate=1e30, critic_rate=1e30))
