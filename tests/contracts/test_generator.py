"""What every image generator promises, grey and in colour; a plug-in passes it by being added to SETTINGS."""

import importlib
import pickle
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import TypeAdapter, ValidationError
from torch import Generator, Tensor

from fedsplit.generators.base import GENERATORS, AnyGenerator, ImageGenerator, Progress, Synthesizer, fitted
from fedsplit.numerics.fingerprint import fingerprint
from fedsplit.records.images import Images, Shape
from fedsplit.seeding import Seeds
from tests.generators import foreign
from tests.metrics.pictures import pictures

SMALL: dict[str, dict[str, Any]] = {
    "checkpoint": {"file": str(foreign.stored()), "trust": True},
    "conditional_gan": {"epochs": 1, "least_steps": 3, "batch_size": 4, "widths": [8, 12]},
    "dcgan": {"width": 2, "steps": 3, "batch_size": 4},
    "style_gan": {"width": 2, "steps": 3, "batch_size": 4, "styles": 8},
}
"""Budgets that keep this fast."""
SETTINGS: list[dict[str, Any]] = [{"kind": kind, **SMALL.get(kind, {})} for kind in GENERATORS.shipped] + [
    {"kind": "dcgan", **SMALL["dcgan"], "augment_below": 0},
    {"kind": "style_gan", **SMALL["style_gan"], "penalty": 0.0, "mapping_depth": 1},
    {"kind": "style_gan", **SMALL["style_gan"], "mixing": 0.9},
]
UNTAUGHT = {"checkpoint"}
"""Those that learn from no image."""
SHAPES: list[Shape] = [(1, 28, 28), (3, 32, 32)]

generators: TypeAdapter[ImageGenerator] = TypeAdapter(AnyGenerator)


# Numbered, since a file has another name in every process.
@pytest.fixture(params=SETTINGS, ids=[f"{settings['kind']}-{number}" for number, settings in enumerate(SETTINGS)])
def generator(request: pytest.FixtureRequest) -> ImageGenerator:
    return generators.validate_python(request.param)


@pytest.fixture(params=SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def images(request: pytest.FixtureRequest) -> Images:
    shape: Shape = request.param
    return pictures(30, shape, seed=0)


def labels_of(generator: ImageGenerator, images: Images) -> Tensor | None:
    return images.labels if generator.conditional else None


@lru_cache
def _fitted(settings: str, shape: Shape) -> Synthesizer:
    generator = generators.validate_json(settings)
    own = pictures(30, shape, seed=0)
    return generator.fit(own.pixels, labels_of(generator, own), Seeds(0))


@pytest.fixture
def synthesizer(generator: ImageGenerator, images: Images) -> Synthesizer:
    channels, height, width = images.pixels.shape[1:]
    return _fitted(generators.dump_json(generator).decode(), (channels, height, width))


def asked(synthesizer: Synthesizer, count: int) -> Tensor | None:
    return None if synthesizer.classes is None else torch.arange(count) % synthesizer.classes


def test_the_same_seeds_give_the_same_weights_and_others_do_not(generator: ImageGenerator, images: Images) -> None:
    labels = labels_of(generator, images)
    pixels, state = images.pixels.clone(), torch.random.get_rng_state()
    first, again, other = (generator.fit(images.pixels, labels, Seeds(root)) for root in (0, 0, 1))
    assert fingerprint(first) == fingerprint(again) != fingerprint(other)
    assert torch.equal(images.pixels, pixels) and not images.pixels.requires_grad
    assert torch.equal(torch.random.get_rng_state(), state)


def test_it_learns_from_the_images(generator: ImageGenerator, images: Images) -> None:
    labels = labels_of(generator, images)
    first, other = (generator.fit(pixels, labels, Seeds(0)) for pixels in (images.pixels, 1 - images.pixels))
    assert (fingerprint(first) != fingerprint(other)) == (generator.kind not in UNTAUGHT)


def test_it_makes_images_in_range_the_same_for_the_same_latents(synthesizer: Synthesizer, images: Images) -> None:
    state = torch.random.get_rng_state()
    first, again = (synthesizer.sample(300, Generator().manual_seed(3), asked(synthesizer, 300)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (300, *images.pixels.shape[1:])
    assert 0 <= first.min() < first.max() <= 1
    assert not first.requires_grad
    assert len(first.flatten(1).unique(dim=0)) > 250
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_is_sampled_is_what_a_single_latent_gives(synthesizer: Synthesizer) -> None:
    latents, labels = synthesizer.draw(300, Generator().manual_seed(3)), asked(synthesizer, 300)
    alone = synthesizer(latents[299:], None if labels is None else labels[299:])
    sampled = synthesizer.sample(300, Generator().manual_seed(3), labels)
    torch.testing.assert_close(alone, sampled[299:], rtol=1e-4, atol=1e-5)


def test_gradients_reach_styles_and_the_network_learns_no_more(synthesizer: Synthesizer) -> None:
    assert not synthesizer.training
    assert not any(parameter.requires_grad for parameter in synthesizer.parameters())
    latents = synthesizer.draw(5, Generator().manual_seed(0))
    styles = synthesizer.mapping(latents, asked(synthesizer, 5)).requires_grad_()
    before = fingerprint(synthesizer)
    images = synthesizer.synthesis(styles)
    (gradient,) = torch.autograd.grad(images.square().sum(), styles)
    assert gradient.shape == styles.shape and gradient.isfinite().all()
    assert (gradient.flatten(1).norm(dim=1) > 0).all()
    assert fingerprint(synthesizer) == before


def test_the_mean_style_is_that_of_many_latents(synthesizer: Synthesizer, images: Images) -> None:
    labels = None if synthesizer.classes is None else images.labels[torch.arange(4000) % len(images)]
    styles = synthesizer.mapping(synthesizer.draw(4000, Generator().manual_seed(9)), labels)
    error = 8 * styles.std(dim=0) / 4000**0.5
    assert ((styles.mean(dim=0) - synthesizer.mean_style).abs() <= error).all()


def test_whoever_listens_hears_of_every_part_of_the_training(generator: ImageGenerator, images: Images) -> None:
    if generator.kind in UNTAUGHT:
        pytest.skip("there is no training")
    heard: list[Progress] = []
    generator.fit(images.pixels, labels_of(generator, images), Seeds(0), heard.append)
    assert heard[-1].step == heard[-1].steps
    assert [report.step for report in heard] == sorted({report.step for report in heard})
    assert all(torch.tensor([report.loss, report.critic_loss]).isfinite().all() for report in heard)


def test_whoever_listens_changes_nothing(generator: ImageGenerator, images: Images) -> None:
    labels = labels_of(generator, images)
    listened = generator.fit(images.pixels, labels, Seeds(0), lambda _: print(torch.rand(3)))
    assert fingerprint(listened) == fingerprint(generator.fit(images.pixels, labels, Seeds(0)))


def test_a_blank_network_takes_the_trained_weights(
    generator: ImageGenerator, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDSPLIT_CACHE", str(tmp_path))
    labels = labels_of(generator, images)
    heard: list[Progress] = []
    state = torch.random.get_rng_state()
    first, again = (fitted(generator, images.pixels, labels, Seeds(0), heard.append) for _ in range(2))
    assert len({report.step for report in heard}) == len(heard), "trained twice"
    assert fingerprint(first) == fingerprint(again)
    drawn = [each.sample(9, Generator().manual_seed(0), asked(each, 9)) for each in (first, again)]
    assert torch.equal(*drawn)
    assert not again.training and not any(parameter.requires_grad for parameter in again.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_its_settings_survive_yaml_and_a_process_border(generator: ImageGenerator) -> None:
    text = yaml.safe_dump(generators.dump_python(generator, mode="json"))
    assert generators.validate_python(yaml.safe_load(text)) == generator
    assert pickle.loads(pickle.dumps(generator)) == generator
    with pytest.raises(ValidationError, match="surprise"):
        generators.validate_python({**generators.dump_python(generator, mode="json"), "surprise": 1})


def test_it_refuses_neither_digits_nor_small_photographs(generator: ImageGenerator) -> None:
    assert not any(generator.refuses(shape) for shape in [*SHAPES, (1, 64, 64), (3, 64, 64)])


@pytest.mark.parametrize("kind", GENERATORS.shipped)
def test_its_module_cites_a_paper(kind: str) -> None:
    text = importlib.import_module(f"fedsplit.generators.{kind}").__doc__
    assert text is not None and re.search(r"(19|20)\d\d", text)
