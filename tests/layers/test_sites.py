"""Layouts put pixels back where they came from, and apply a layer as its definition says."""

import pytest
import torch

from fedsplit.layers.sites import sites_of
from fedsplit.records.images import Shape
from fedsplit.seeding import Seeds

LAYOUTS: list[tuple[tuple[int, ...], Shape, list[str]]] = [
    ((30,), (1, 6, 6), ["the whole image"]),
    ((1, 28, 100), (1, 28, 28), ["rows"]),
    ((3, 28, 100), (3, 28, 28), ["rows"]),
    ((1, 28, 28), (1, 28, 28), ["rows", "patches"]),
    ((6, 24, 24), (1, 28, 28), ["patches"]),
    ((6, 12, 12), (1, 28, 28), ["patches"]),
    ((4, 5, 4), (3, 9, 7), ["patches"]),
    ((4, 2, 2), (3, 32, 32), ["the whole image"]),
    ((4, 9, 3), (3, 7, 5), ["the whole image"]),
]


@pytest.mark.parametrize(("cut", "image", "names"), LAYOUTS)
def test_the_shapes_tell_which_layouts_are_possible(cut: tuple[int, ...], image: Shape, names: list[str]):
    assert [sites.name for sites in sites_of(cut, image)] == names


@pytest.mark.parametrize(("cut", "image", "names"), LAYOUTS)
def test_assembling_undoes_scattering(cut: tuple[int, ...], image: Shape, names: list[str]):
    for sites in sites_of(cut, image):
        images = torch.rand(5, *image, generator=Seeds(0)("images"))
        pixels = sites.scatter(images)
        assert pixels.shape == (5, sites.count, sites.outputs)
        assert torch.equal(sites.assemble(pixels), images)


@pytest.mark.parametrize(("cut", "image", "names"), LAYOUTS)
def test_applying_is_a_linear_layer_on_what_is_gathered(cut: tuple[int, ...], image: Shape, names: list[str]):
    for sites in sites_of(cut, image):
        rng = Seeds(0)("layer")
        smashed = torch.rand(5, *cut, generator=rng, dtype=torch.float64)
        weight = torch.rand(2, sites.features, generator=rng, dtype=torch.float64)
        bias = torch.rand(2, generator=rng, dtype=torch.float64)
        gathered = sites.gather(smashed)
        assert gathered.shape == (5, sites.count, sites.features)
        torch.testing.assert_close(sites.apply(smashed, weight, bias), gathered @ weight.T + bias)


def test_a_place_of_a_map_without_border_sees_the_pixels_it_was_made_of():
    (sites,) = sites_of((1, 24, 24), (1, 28, 28))
    smashed = torch.zeros(1, 1, 24, 24)
    smashed[0, 0, 3, 10] = 1
    # An unpadded 5 x 5 convolution centres place (3, 10) on pixel (5, 12).
    centre = sites.gather(smashed).view(28, 28, 5, 5)[:, :, 2, 2]
    assert centre.nonzero().tolist() == [[5, 12]]
