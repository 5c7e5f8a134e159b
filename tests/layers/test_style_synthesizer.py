import math

import pytest
import torch
from torch import Generator
from torch.nn import functional as F

from fedsplit.layers.image_critic import ImageCritic
from fedsplit.layers.pyramid import pyramid, unfit
from fedsplit.layers.style_synthesizer import StyleSynthesizer, _Modulated  # pyright: ignore[reportPrivateUsage]
from fedsplit.layers.transposed_synthesizer import TransposedSynthesizer
from fedsplit.records.images import Shape
from fedsplit.seeding import Seeds

SHAPES: list[Shape] = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 29, 19), (2, 64, 64)]


@pytest.fixture
def small() -> StyleSynthesizer:
    with Seeds(0).fork("weights"):
        return StyleSynthesizer((1, 16, 16), latents=6, styles=5, depth=2, width=3).eval()


@pytest.mark.parametrize("demodulated", [True, False])
def test_scaling_inputs_and_outputs_is_scaling_the_weights_of_each_sample(demodulated: bool) -> None:
    with Seeds(0).fork("weights"):
        layer = _Modulated(4, 3, 3, 5, demodulated=demodulated).double()
        maps, styles = torch.randn(2, 4, 6, 6).double(), torch.randn(2, 5).double()
    found = layer(maps, styles)
    for image, style, own in zip(maps, styles, found, strict=True):
        weights = layer.weight * layer.scale(style)[None, :, None, None]
        if demodulated:
            weights = weights / weights.square().sum(dim=(1, 2, 3), keepdim=True).sqrt() * math.sqrt(2 / 1.04)
        torch.testing.assert_close(F.conv2d(image[None], weights, padding=1)[0], own, rtol=1e-6, atol=1e-8)


def test_demodulation_forgets_how_large_a_style_is_meant() -> None:
    layer = _Modulated(4, 3, 3, 5)
    torch.nn.init.zeros_(layer.scale.bias)
    maps, styles = torch.ones(1, 4, 6, 6), torch.ones(1, 5)
    torch.testing.assert_close(layer(maps, styles), layer(maps, 7 * styles))


def test_only_the_direction_of_a_latent_counts(small: StyleSynthesizer) -> None:
    latents = torch.randn(4, 6, generator=Generator().manual_seed(0))
    torch.testing.assert_close(small.mapping(latents), small.mapping(3 * latents))
    assert not torch.allclose(small.mapping(latents), small.mapping(-latents))


def test_styles_alone_make_the_image_in_training_too(small: StyleSynthesizer) -> None:
    styles = torch.randn(4, 5, generator=Generator().manual_seed(0))
    for level in small.levels:
        torch.nn.init.ones_(level.first_end.strength)  # pyright: ignore
    torch.testing.assert_close(small(styles[:, [0, 1, 2, 3, 4, 0]]), small.train()(styles[:, [0, 1, 2, 3, 4, 0]]))
    assert torch.equal(small.synthesis(styles), small.synthesis(styles))
    assert len(small.synthesis(styles).flatten(1).unique(dim=0)) == 4


def test_every_parameter_learns(small: StyleSynthesizer) -> None:
    latents = torch.randn(4, 6, generator=Generator().manual_seed(0))
    small(latents).square().sum().backward()
    idle = [name for name, value in small.named_parameters() if value.grad is None or not value.grad.any()]
    assert not idle


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_every_size_comes_out_and_goes_in(shape: Shape) -> None:
    assert not unfit(shape)
    for synthesizer in (StyleSynthesizer(shape, 6, 5, 1, 2), TransposedSynthesizer(shape, 6, 2)):
        images = synthesizer(torch.randn(3, 6))
        assert images.shape == (3, *shape)
        assert ImageCritic(shape, 2)(images).shape == (3,)


def test_a_pyramid_halves_until_few_places_are_left() -> None:
    levels = pyramid((1, 28, 28), 4)
    assert [(level.width, level.height, level.breadth) for level in levels] == [(16, 7, 7), (8, 14, 14), (4, 28, 28)]
    assert [level.height for level in pyramid((3, 64, 64), 1)] == [4, 8, 16, 32, 64]
    assert max(level.width for level in pyramid((3, 128, 128), 1)) == 8
    assert pyramid((1, 29, 19), 1)[-1].height >= 29 and pyramid((1, 29, 19), 1)[-1].breadth >= 19


@pytest.mark.parametrize(
    ("shape", "word"), [((1, 7, 9), "small"), ((1, 200, 128), "large"), ((1, 8, 40), "long"), ((1, 8, 16), "")]
)
def test_what_cannot_be_made_is_said(shape: Shape, word: str) -> None:
    assert word in unfit(shape) and bool(unfit(shape)) == bool(word)


def test_a_critic_sees_that_samples_are_all_alike() -> None:
    with Seeds(0).fork("weights"):
        critic = ImageCritic((1, 16, 16), 2).requires_grad_(requires_grad=False)
    images = torch.rand(6, 1, 16, 16, generator=Generator().manual_seed(0))
    among_others, alone = critic(images)[0], critic(images[:1].expand(6, -1, -1, -1))[0]
    assert abs(float(among_others - alone)) > 1e-4


def test_a_second_style_reaches_the_levels_behind_the_crossover_and_no_other() -> None:
    with Seeds(0).fork("weights"):
        network = StyleSynthesizer((1, 28, 28), latents=6, styles=5, depth=1, width=3).eval()
    first, second = torch.randn(2, 4, 5, generator=Generator().manual_seed(0))
    second.requires_grad_()
    levels = len(network.levels)
    assert levels == 3
    maps: list[torch.Tensor] = []
    for level in network.levels:
        level.register_forward_hook(lambda *told: maps.append(told[2][0]))  # pyright: ignore
    network.mixed(first, second, torch.tensor([0, 1, 2, 3]))
    for number, found in enumerate(maps):
        for image, crossover in enumerate(range(4)):
            (gradient,) = torch.autograd.grad(found[image].square().sum(), second, retain_graph=True)
            assert bool(gradient[image].any()) == (number >= crossover)
            assert not gradient[[other for other in range(4) if other != image]].any()


def test_all_levels_with_one_style_are_that_styles_image(small: StyleSynthesizer) -> None:
    first, second = torch.randn(2, 3, 5, generator=Generator().manual_seed(0))
    ends = [small.mixed(first, second, torch.full((3,), levels)) for levels in (0, len(small.levels))]
    for end, alone in zip(ends, (second, first), strict=True):
        # Other products may be rounded otherwise, as processors please.
        assert torch.allclose(end, small.synthesis(alone), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mixing", [0.0, 0.25, 1.0])
def test_such_a_share_of_images_is_mixed_in_training_and_none_afterwards(mixing: float) -> None:
    with Seeds(0).fork("weights"):
        network = StyleSynthesizer((1, 28, 28), latents=6, styles=5, depth=1, width=3, mixing=mixing)
    drawn: list[torch.Tensor] = []
    mixed = network.mixed
    network.mixed = lambda first, second, crossovers: (  # pyright: ignore[reportAttributeAccessIssue]
        drawn.append(crossovers) or mixed(first, second, crossovers)
    )
    latents = torch.randn(400, 6, generator=Generator().manual_seed(0))
    with torch.no_grad(), Seeds(0).fork("forward"):
        state = torch.random.get_rng_state()
        assert torch.equal(network.eval()(latents), network.synthesis(network.mapping(latents)))
        assert not drawn and torch.equal(torch.random.get_rng_state(), state)
        images = network.train()(latents)
        plain = network.synthesis(network.mapping(latents))
    same = (images == plain).flatten(1).all(dim=1)
    assert float(1 - same.double().mean()) == pytest.approx(mixing, abs=0.06)
    if mixing:
        counts = drawn[0][~same].bincount(minlength=4)
        assert counts[0] == counts[3] == 0 and 0.35 < float(counts[1] / counts.sum()) < 0.65
