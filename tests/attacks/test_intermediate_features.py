"""Features moved behind what Plug-and-Play finds, on a model whose classes are known: the angles of a bar."""

from functools import lru_cache
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from fedsplit.attacks.intermediate_features import IntermediateFeatures
from fedsplit.attacks.plug_and_play import PlugAndPlay
from fedsplit.checks import check_cuts
from fedsplit.component import Trust
from fedsplit.errors import FedsplitError
from fedsplit.generators.base import ImageGenerator
from fedsplit.layers.class_search import ClassSearch, told
from fedsplit.layers.crops import Crops
from fedsplit.layers.feature_search import FeatureSearch
from fedsplit.layers.synthesizer import Block, ChainedSynthesizer, Stage, Synthesizer, Tell, nothing
from fedsplit.reading import parse
from fedsplit.records.images import Shape
from fedsplit.records.reconstruction import Reconstruction
from fedsplit.seeding import Seeds
from tests import tiny
from tests.attacks import makers
from tests.attacks.makers import SHAPE, SMALL, bar_model, class_leak

QUICK = {"student_samples": 60, "student_epochs": 1}
FEATURES = QUICK | {"feature_steps": 8, "feature_rate": 0.02}


@lru_cache
def plain(weights: bool) -> Reconstruction:
    return PlugAndPlay(**(SMALL | QUICK)).reconstruct(class_leak(bar_model(), weights=weights), Seeds(3)("attack"))


def attacked(weights: bool = True, **settings: Any) -> Reconstruction:
    attack = IntermediateFeatures(**(SMALL | FEATURES | settings))
    return attack.reconstruct(class_leak(bar_model(), weights=weights), Seeds(3)("attack"))


@pytest.mark.parametrize("weights", [True, False])
def test_a_ball_of_no_size_leaves_plug_and_play_bit_by_bit(weights: bool) -> None:
    found, known = attacked(weights, radius=0.0), plain(weights)
    assert torch.equal(found.images, known.images)
    assert found.unguided is not None and known.unguided is not None
    assert torch.equal(found.unguided, known.unguided)
    assert (found.evidence.before, found.evidence.after) == (known.evidence.before, known.evidence.after)
    assert found.evidence.settings == known.evidence.settings
    steps = len(known.evidence.losses)
    assert found.evidence.losses[:steps] == known.evidence.losses
    assert len(set(found.evidence.losses[steps:])) == 1, "nothing was nearer, and nothing was kept"


def test_features_bring_images_nearer_to_their_class_than_styles_alone() -> None:
    found, steps = attacked(radius=0.3, feature_steps=20), len(plain(True).evidence.losses)
    before, after = found.evidence.losses[steps:]
    assert after < 0.8 * before
    assert "features moved for the better in" in found.evidence.settings
    assert not torch.equal(found.images, plain(True).images)
    assert float(found.images.min()) >= 0 and float(found.images.max()) <= 1


class Upright(makers.BarSynthesizer):
    """All bars are of one class, whatever the style."""

    def mapping(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return torch.stack([0.9 + 0.01 * latents[:, 0].tanh(), latents[:, 1]], dim=1)


class UprightBars(makers.Bars):
    def network(self, shape: Shape, classes: int | None) -> Synthesizer:
        return Upright(shape)


def test_it_finds_classes_that_no_style_leads_to() -> None:
    leak = class_leak(bar_model(), weights=True)
    assert leak.wanted is not None
    confidences: list[Tensor] = []
    settings = SMALL | {"generator": UprightBars(), "learning_rate": 0.001}
    wide = IntermediateFeatures(**(settings | {"feature_steps": 50, "feature_rate": 0.05, "radius": 2.0}))
    for attack in (PlugAndPlay(**settings), wide):
        images = attack.reconstruct(leak, Seeds(3)("attack")).images
        likely = bar_model()(images).softmax(dim=1).detach()
        confidences.append(likely[torch.arange(18), leak.wanted].view(3, 6).mean(dim=1))
    assert (confidences[0] < 0.15).sum() == 2, "styles reach one class alone"
    assert bool((confidences[1] > 0.9).all())


class Line(ChainedSynthesizer):
    """A style is an image already, and goes through blocks that change nothing; features are images, then."""

    def __init__(self) -> None:
        super().__init__(latents=16, style_width=16)

    def mapping(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return latents

    @property
    def blocks(self) -> tuple[Block, ...]:
        return (self._image, self._same, self._same)

    def _image(self, stage: Stage, styles: Tensor) -> Stage:
        return Stage(stage.features.view(-1, 1, 4, 4))

    def _same(self, stage: Stage, styles: Tensor) -> Stage:
        return Stage(stage.features * 1.0)


class Sum(nn.Module):
    """Logits of two classes: the brighter, the more the second."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([images.new_ones(len(images)), images.sum(dim=(1, 2, 3))], dim=1)


def search(model: nn.Module, **changes: Any) -> ClassSearch:
    settings: dict[str, Any] = {
        "network": Line(),
        "model": model,
        "scores": lambda images: model(images).softmax(dim=1),
        "crops": Crops((1.0, 1.0)),
        "steps": 1,
        "learning_rate": 0.1,
        "views": Crops((1.0, 1.0)),
        "looks": 1,
        "batch_size": 5,
    }
    return ClassSearch(**(settings | changes))


STYLES = 0.5 + 0.05 * torch.randn(12, 16, generator=Seeds(0)("styles"))


@pytest.mark.parametrize("places", [1, 2, 9])
def test_features_go_to_the_end_of_their_balls_and_no_further(places: int) -> None:
    radius = 0.02
    features = FeatureSearch(search(Sum()), places, steps=30, learning_rate=0.05, radius=radius)
    found = features.refined(1, STYLES, Seeds(0))
    start = STYLES.view(-1, 1, 4, 4)
    change, size = (found.images - start).flatten(1).abs().sum(dim=1), start.flatten(1).abs().sum(dim=1)
    # Behind the first block by the radius, behind the second one by twice as much of what is there then.
    most = size * radius if places == 1 else size * ((1 + radius) * (1 + 2 * radius) - 1)
    assert bool((change <= most * (1 + 1e-5)).all())
    assert found.moved == 1 and float((change / most).min()) > 0.95
    assert len(found.losses) == 1 + min(places, 2)
    assert all(later < earlier for earlier, later in zip(found.losses, found.losses[1:], strict=False))


class Fickle(nn.Module):
    """Logits that waver fast, so that steps along the gradient miss as often as not."""

    def forward(self, images: Tensor) -> Tensor:
        value = (40 * images).sin().sum(dim=(1, 2, 3))
        return torch.stack([value, 3 - value], dim=1)


def test_what_is_kept_is_never_farther_than_it_was_and_the_rest_is_as_it_was() -> None:
    looking = search(Fickle())
    found = FeatureSearch(looking, 2, steps=3, learning_rate=0.2, radius=0.5).refined(0, STYLES, Seeds(0))
    before, after = (looking.distances(images, 0) for images in (STYLES.view(-1, 1, 4, 4), found.images))
    assert bool((after <= before).all())
    same = (found.images == STYLES.view(-1, 1, 4, 4)).flatten(1).all(dim=1)
    assert 0 < int(same.sum()) < 12, "some were better as they were"
    assert found.moved == pytest.approx(1 - float(same.double().mean()))
    assert list(found.losses) == sorted(found.losses, reverse=True)
    # Crops of all of the image are the image, so the losses are those of what was handed in and of what came back.
    ends = [float(told(distances).mean()) for distances in (before, after)]
    assert [found.losses[0], found.losses[-1]] == pytest.approx(ends, rel=1e-4)


def test_it_matters_to_nobody_who_is_moved_beside() -> None:
    together, apart = (
        FeatureSearch(search(Sum(), batch_size=size), 2, 3, 0.01, 0.1).refined(1, STYLES, Seeds(0)).images
        for size in (12, 1)
    )
    torch.testing.assert_close(together, apart)


class Unchained(makers.BarSynthesizer):
    @property
    def blocks(self) -> tuple[Block, ...]:
        return ()


class UnchainedBars(ImageGenerator):
    def network(self, shape: Shape, classes: int | None) -> Synthesizer:
        return Unchained(shape)

    def fit(self, images: Tensor, labels: Tensor | None, seeds: Seeds, tell: Tell = nothing) -> Synthesizer:
        raise AssertionError("it was asked to learn")


def test_a_generator_that_is_no_chain_is_refused_in_one_line_before_any_compute() -> None:
    attack = {"kind": "intermediate_features", "generator": {"kind": f"{__name__}:UnchainedBars"}}
    raw = tiny.raw("threats=[{kind: plug_and_play}]", "metrics=[{kind: attack_accuracy}]") | {"attacks": [attack]}
    with pytest.raises(FedsplitError, match=r"attacks.0: 'intermediate_features': moves features .* chain") as caught:
        check_cuts(parse(raw, Trust()), (1, 8, 8), 10)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["style_gan", "dcgan", "conditional_gan"])
def test_generators_of_our_own_are_chains(kind: str) -> None:
    state = torch.random.get_rng_state()
    attack = {"kind": "intermediate_features", "generator": {"kind": kind}}
    raw = tiny.raw("threats=[{kind: plug_and_play}]", "metrics=[{kind: attack_accuracy}]") | {"attacks": [attack]}
    assert not [words for shape in (SHAPE, (3, 32, 32)) if (words := parse(raw, Trust()).attacks[0].unfit(shape))]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_images_too_small_for_the_generator_are_refused() -> None:
    assert "too small" in IntermediateFeatures().unfit((1, 6, 6))


@pytest.mark.parametrize("settings", [{"radius": -0.1}, {"blocks": 0}, {"feature_steps": 0}, {"starts": 300}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        IntermediateFeatures(**(SMALL | settings))
