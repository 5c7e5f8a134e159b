"""The decoder learns what a line cannot, keeps its best weights, and asks for fresh noise."""

from math import prod
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from fedsplit.attacks.inverse_network import InverseNetwork
from fedsplit.attacks.linear_inverse import LinearInverse
from fedsplit.layers.critic import Critic
from fedsplit.layers.decoder_training import _pulled
from fedsplit.progress import observed_by
from fedsplit.records.images import Shape
from fedsplit.seeding import Seeds
from tests.attacks.leaks import Case, Release, case, map_client, noisy, rows_client, undefended, useless

QUICK = InverseNetwork(epochs=6, batch_size=16, learning_rates=(0.003,))


def loud(smashed: Tensor, rng: torch.Generator) -> Tensor:
    return smashed + 3 * smashed.std() * torch.randn(smashed.shape, generator=rng).to(smashed)


def reconstruct(attack: InverseNetwork, about: Case):
    return attack.reconstruct(about.leak, Seeds(0)("attack"))


def test_it_beats_the_best_linear_guess_on_a_rectified_client():
    about = case(rows_client)
    linear = LinearInverse().reconstruct(about.leak, Seeds(0)("attack")).images
    network = reconstruct(QUICK.model_copy(update={"epochs": 20}), about)
    assert about.error(network.images) < 0.7 * about.error(linear)


def scrambled_client(shape: Shape) -> nn.Module:
    """Every place of what crosses sees the whole image, so that no two places can share a map."""
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(shape), 6 * 12 * 12), nn.ReLU(), nn.Unflatten(1, (6, 12, 12)))


def test_where_no_places_share_a_map_it_starts_from_a_ridge_of_everything_and_gets_nearer():
    about = case(scrambled_client)
    linear = about.error(LinearInverse().reconstruct(about.leak, Seeds(0)("attack")).images)
    guess = reconstruct(QUICK.model_copy(update={"epochs": 20}), about)
    assert "beside a ridge of everything" in guess.evidence.settings
    assert about.error(guess.images) < 0.95 * linear
    assert "ridge" not in reconstruct(QUICK, case()).evidence.settings


def test_where_noise_can_be_drawn_anew_no_ridge_of_one_draw_is_told():
    attack = QUICK.model_copy(update={"epochs": 20})
    for queries in (True, False):
        about = case(scrambled_client, noisy, queries=queries)
        guess = reconstruct(attack, about)
        assert ("ridge" in guess.evidence.settings) is not queries
        assert about.error(guess.images) < about.error(LinearInverse().reconstruct(about.leak, Seeds(0)("a")).images)


def test_a_rate_that_ends_in_no_number_at_all_is_not_chosen():
    picked = reconstruct(QUICK.model_copy(update={"learning_rates": (1e30, 0.003)}), case())
    assert "learning rate 0.003" in picked.evidence.settings


def test_losses_are_those_of_the_mean_image_and_of_each_epoch():
    about = case()
    evidence = reconstruct(QUICK, about).evidence
    images = about.leak.auxiliary.images
    assert len(evidence.losses) == 7
    assert evidence.losses[0] == pytest.approx((images - images.mean(dim=0)).square().mean().item(), rel=1e-5)
    assert evidence.losses[-1] < evidence.losses[1] < evidence.losses[0]


def test_a_rate_that_diverges_is_not_chosen_and_leaves_the_weights_before_training():
    about = case()
    picked = reconstruct(QUICK.model_copy(update={"learning_rates": (30.0, 0.003)}), about)
    assert "learning rate 0.003" in picked.evidence.settings
    alone = reconstruct(QUICK.model_copy(update={"learning_rates": (30.0,)}), about)
    assert "weights of epoch 0 of 6" in alone.evidence.settings
    assert alone.evidence.before != alone.evidence.after
    assert about.error(alone.images) < 0.5 * about.anchor


@pytest.mark.parametrize(("release", "asked"), [(undefended, False), (noisy, True)])
def test_it_asks_for_every_batch_anew_where_the_answer_varies(release: Release, asked: bool):
    requests: list[int] = []

    def counted(smashed: Tensor, rng: torch.Generator) -> Tensor:
        requests.append(len(smashed))
        return release(smashed, rng)

    about = case(release=counted)
    requests.clear()
    guess = reconstruct(QUICK, about)
    probes = 2 * 16
    assert sum(requests) == probes + (6 * 300 if asked else 0)
    assert ("fresh releases" in guess.evidence.settings) is asked


def test_fresh_noise_teaches_more_than_one_draw_of_it():
    attack = QUICK.model_copy(update={"epochs": 20})
    fresh, frozen = (case(release=noisy, queries=queries) for queries in (True, False))
    assert fresh.error(reconstruct(attack, fresh).images) < frozen.error(reconstruct(attack, frozen).images)


def test_from_noise_it_learns_nothing_and_says_so():
    about = case(release=useless)
    guess = reconstruct(QUICK, about)
    assert about.error(guess.images) == pytest.approx(about.anchor, rel=0.01)
    assert (guess.images - about.mean_image).abs().max() < 0.02
    assert min(guess.evidence.losses[1:]) > 0.9 * guess.evidence.losses[0]


def test_other_streams_give_other_decoders():
    about = case()
    first, other = (QUICK.reconstruct(about.leak, Seeds(seed)("attack")) for seed in (0, 1))
    assert first.evidence.before != other.evidence.before
    assert not torch.equal(first.images, other.images)


def test_whoever_watches_sees_the_epochs_pass():
    class Watcher:
        def __init__(self) -> None:
            self.steps: list[int] = []

        def started(self, description: str, total: int) -> object:
            self.steps.append(0)
            return total

        def advanced(self, loop: object) -> None:
            self.steps[-1] += 1

        def finished(self, loop: object) -> None:
            pass

    watcher = Watcher()
    with observed_by(watcher):
        reconstruct(QUICK, case())
    assert watcher.steps == [6]


@pytest.mark.parametrize(
    ("settings", "title"),
    [
        ({}, "inverse_network"),
        ({"reads": "labels"}, "inverse_network, label alone"),
        ({"top": 3}, "inverse_network, top 3"),
        ({"digits": 1}, "inverse_network, 1 digit"),
        ({"digits": 2, "top": 1}, "inverse_network, top 1, 2 digits"),
        ({"adversarial": 0.3, "reads": "labels"}, "inverse_network with critic, label alone"),
    ],
)
def test_its_title_says_what_it_looks_at_where_that_is_not_all(settings: dict[str, Any], title: str):
    assert InverseNetwork(**settings).title == title


@pytest.mark.parametrize("settings", [{"top": 1}, {"digits": 2}])
def test_who_looks_at_labels_has_no_confidence_to_choose_or_round(settings: dict[str, Any]):
    with pytest.raises(ValidationError, match="leave out `top` and `digits`"):
        InverseNetwork(reads="labels", **settings)


def sharpness(images: Tensor) -> float:
    return images.clamp(0, 1).diff(dim=3).square().mean().sqrt().item()


def test_with_a_critic_images_are_as_sharp_as_images_are_and_err_a_little_more():
    about = case(map_client, loud)
    plain, judged = (
        reconstruct(QUICK.model_copy(update={"epochs": 30, "adversarial": weight}), about) for weight in (0.0, 0.3)
    )
    true = sharpness(about.truth)
    assert sharpness(plain.images) < 0.8 * true, "squared errors make of doubt a blur"
    assert abs(sharpness(judged.images) - true) < 0.6 * abs(sharpness(plain.images) - true)
    assert about.error(plain.images) < about.error(judged.images) < 1.25 * about.error(plain.images) < about.anchor
    assert "weights of epoch 30 of 30" in judged.evidence.settings
    assert judged.evidence.settings.endswith("critic of weight 0.3")
    assert InverseNetwork(adversarial=0.3).title == "inverse_network with critic"


def test_a_critic_pulls_in_proportion_to_the_squared_error():
    found: list[float] = []
    for scale in (1.0, 100.0):
        with Seeds(0).fork("critic"):
            critic = Critic((1, 12, 12), 0.001, torch.zeros(()))
        images = torch.rand(8, 1, 12, 12, generator=Seeds(0)("images"))
        rebuilt = images + scale * 1e-3 * torch.randn(images.shape, generator=Seeds(1)("images"))
        towards = 2 * (rebuilt - images) / images.numel()
        added = _pulled(rebuilt, images, critic, 0.5) - towards
        found.append(float(added.norm() / towards.norm()))
    assert found == pytest.approx([0.5, 0.5], rel=1e-4)


def test_a_critic_learns_to_tell_real_images_and_what_it_says_makes_them_pass():
    with Seeds(0).fork("critic"):
        critic = Critic((1, 12, 12), 0.003, torch.zeros(()))
    about = case()
    real, rebuilt = about.truth, about.truth.mean(dim=0).expand_as(about.truth)
    for _ in range(40):
        critic.learn(real, rebuilt)
    step = 0.1 / float(critic.pull(rebuilt).norm()) * critic.pull(rebuilt)
    with torch.no_grad():
        truth, blur, better = (float(critic.network(images).mean()) for images in (real, rebuilt, rebuilt - step))
    assert truth > 0 > blur
    assert better > blur
