"""Syntheses that are chains of blocks."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fedsplit.layers.dense_gan import DenseSynthesizer
from fedsplit.layers.style_synthesizer import StyleSynthesizer
from fedsplit.layers.synthesizer import Stage, Synthesizer, chained
from fedsplit.layers.transposed_synthesizer import TransposedSynthesizer
from fedsplit.records.images import Shape
from fedsplit.seeding import Seeds

IMAGE: Shape = (3, 18, 20)
CHAINS: dict[str, tuple[Callable[[], Synthesizer], int]] = {
    "style": (lambda: StyleSynthesizer(IMAGE, latents=6, styles=5, depth=2, width=3), 3),
    "transposed": (lambda: TransposedSynthesizer(IMAGE, latents=6, width=3), 4),
    "dense": (lambda: DenseSynthesizer(IMAGE, latents=6, widths=(8, 9), classes=None), 3),
    "dense with classes": (lambda: DenseSynthesizer(IMAGE, latents=6, widths=(8, 9), classes=4), 3),
}


@pytest.fixture(params=CHAINS)
def made(request: pytest.FixtureRequest) -> tuple[Synthesizer, Tensor, int]:
    build, count = CHAINS[request.param]
    with Seeds(0).fork("weights"):
        synthesizer = build().eval()
        labels = None if synthesizer.classes is None else torch.arange(4)
        return synthesizer, synthesizer.mapping(torch.randn(4, 6), labels).detach(), count


def stages(synthesizer: Synthesizer, styles: Tensor) -> list[Stage]:
    found = [Stage(styles)]
    for block in synthesizer.blocks:
        found.append(block(found[-1], styles))
    return found


def test_the_last_stage_is_the_image(made: tuple[Synthesizer, Tensor, int]) -> None:
    synthesizer, styles, count = made
    every = stages(synthesizer, styles)
    assert len(synthesizer.blocks) == count
    assert torch.equal(every[-1].features, synthesizer.synthesis(styles))
    assert every[-1].features.shape == (4, *IMAGE)


def test_every_feature_between_two_blocks_moves_its_own_image_and_no_other(
    made: tuple[Synthesizer, Tensor, int],
) -> None:
    synthesizer, styles, _ = made
    for place, stage in enumerate(stages(synthesizer, styles)[1:-1], start=1):
        features = stage.features.detach().clone().requires_grad_()
        images = chained(synthesizer.blocks[place:], Stage(features, stage.painted), styles)
        (gradient,) = torch.autograd.grad(images[1].square().sum(), features)
        moved = gradient.flatten(1).abs().sum(dim=1)
        assert float(moved[1]) > 0 and not moved[[0, 2, 3]].any()
