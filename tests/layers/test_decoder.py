"""An untrained decoder is the closed-form map it starts from; every part of it can learn."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from fedsplit.layers.decoder import Decoder
from fedsplit.layers.site_map import SiteMap, fit_site_map
from fedsplit.layers.sites import sites_of
from fedsplit.records.images import Shape
from fedsplit.seeding import Seeds

SHAPES: list[tuple[tuple[int, ...], Shape]] = [
    ((30,), (1, 8, 8)),
    ((1, 8, 20), (1, 8, 8)),
    ((3, 8, 20), (3, 8, 8)),
    ((4, 6, 6), (1, 8, 8)),
    ((4, 4, 4), (3, 9, 7)),
]


def example(cut: tuple[int, ...], image: Shape, dtype: torch.dtype = torch.float32) -> tuple[Tensor, SiteMap]:
    rng = Seeds(0)("example")
    smashed = 5 * torch.rand(60, *cut, generator=rng).to(dtype)
    images = torch.rand(60, *image, generator=rng).to(dtype) * smashed.flatten(1).mean(dim=1).view(-1, 1, 1, 1)
    return smashed, fit_site_map(smashed, images, sites_of(cut, image))


def decoder(start: SiteMap, smashed: Tensor, seed: int = 0, depth: int = 2) -> Decoder:
    with Seeds(seed).fork("decoder"):
        return Decoder(start, smashed.std(), width=16, depth=depth)


@pytest.mark.parametrize(("cut", "image"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_untrained_it_is_the_map_it_starts_from(cut: tuple[int, ...], image: Shape, dtype: torch.dtype):
    smashed, start = example(cut, image, dtype)
    network = decoder(start, smashed)
    guess = network(smashed)
    assert guess.shape == (60, *image)
    assert guess.dtype == dtype
    torch.testing.assert_close(guess, start.predict(smashed), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network(smashed, guess), 2 * guess)


@pytest.mark.parametrize(("cut", "image"), SHAPES)
def test_every_parameter_moves_within_three_steps(cut: tuple[int, ...], image: Shape):
    smashed, start = example(cut, image)
    network = decoder(start, smashed)
    before = [parameter.clone() for parameter in network.parameters()]
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        (network(smashed, start.predict(smashed)) - smashed.mean()).square().mean().backward()
        optimizer.step()
    still = [name for (name, now), old in zip(network.named_parameters(), before, strict=True) if torch.equal(now, old)]
    assert not still


def test_depth_adds_hidden_layers():
    smashed, start = example(*SHAPES[1])
    counts = [sum(1 for _ in decoder(start, smashed, depth=depth).parameters()) for depth in (1, 2, 3)]
    assert [after - before for before, after in pairwise(counts)] == [2, 2]


def test_the_global_stream_alone_decides_the_initial_weights():
    smashed, start = example(*SHAPES[1])
    first, same, other = (decoder(start, smashed, seed).local_input.weight for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
