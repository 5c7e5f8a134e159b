from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor

from fedsplit.errors import DataError
from fedsplit.layers.first_dictionary import Beginning, FirstDictionary
from fedsplit.layers.sparse_coding import SparseCodingLayer
from fedsplit.records.images import Images

BEGINNINGS: list[Beginning] = ["patches", "pretrained"]


def layer(channels: int = 1, features: int = 4, kernel: int = 3) -> SparseCodingLayer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SparseCodingLayer(channels, features, kernel, lambda_=0.2)


def public(rows: int = 12, channels: int = 1, side: int = 8) -> Images:
    pixels = torch.rand((rows, channels, side, side + 1), generator=Generator().manual_seed(1))
    return Images(pixels, torch.zeros(rows, dtype=torch.long), torch.arange(rows), ("a",))


def given(beginning: Beginning, images: Images, own: SparseCodingLayer, seed: int = 0) -> SparseCodingLayer:
    FirstDictionary(beginning, passes=4, rate=1.0).give(own, images, Generator().manual_seed(seed))
    return own


def all_patches(own: SparseCodingLayer, images: Images) -> Tensor:
    """Every window of every standardised image, of unit norm, one by one."""
    kernel = own.dictionary.shape[-1]
    found: list[Tensor] = []
    for image in own.standardised(images.pixels):
        for row in range(image.shape[1] - kernel + 1):
            for column in range(image.shape[2] - kernel + 1):
                window = image[:, row : row + kernel, column : column + kernel]
                found.append(window / window.norm())
    return torch.stack(found)


@pytest.mark.parametrize("channels", [1, 3])
def test_atoms_are_different_patches_of_the_images(channels: int) -> None:
    images = public(channels=channels)
    own = given("patches", images, layer(channels))
    distance = torch.cdist(own.dictionary.flatten(1).double(), all_patches(own, images).flatten(1).double())
    assert distance.min(dim=1).values.max() < 1e-5
    assert len(distance.argmin(dim=1).unique()) == len(own.dictionary)


def test_flat_places_give_no_atom() -> None:
    images = public(side=12)
    pixels = images.pixels.clone()
    pixels[:, :, :, 5:] = 0.5  # more than half of every image
    own = given("patches", replace(images, pixels=pixels), layer(features=12))
    assert own.dictionary.flatten(1).std(dim=1).min() > 0.01


def test_another_stream_gives_other_patches_and_the_same_one_the_same() -> None:
    first, again, other = (given("patches", public(), layer(), seed).dictionary for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_pretraining_lowers_the_objective_on_images_it_has_not_seen() -> None:
    # Images made of two atoms: there is something to learn.
    atoms = torch.tensor([[1.0, 1, 1], [0, 0, 0], [-1, -1, -1]])[None, None]
    atoms = torch.cat([atoms, atoms.mT])
    codes = (torch.rand((90, 2, 10, 10), generator=Generator().manual_seed(2)) > 0.96).float()
    pixels = torch.nn.functional.conv_transpose2d(codes, atoms, padding=1)
    images = Images(pixels, torch.zeros(90, dtype=torch.long), torch.arange(90), ("a",))
    learned, unseen = images.at(torch.arange(70)), pixels[70:]
    found: dict[Beginning, float] = {}
    for beginning in ("random", *BEGINNINGS):
        own = given(beginning, learned, layer())
        found[beginning] = own.objective(unseen, own.solve(unseen).codes).mean().item()
    assert found["pretrained"] < 0.98 * found["patches"] < 0.98 * found["random"]


def test_random_is_what_the_layer_began_with() -> None:
    own = given("random", public(0), layer())
    assert torch.equal(own.dictionary, layer().dictionary)


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_no_public_images_are_told_with_the_way_out(beginning: Beginning) -> None:
    with pytest.raises(DataError, match=r"first_dictionary: '\w+': .*none; set roles\.public"):
        given(beginning, public(0), layer())


def test_images_that_hold_no_atom_are_refused() -> None:
    flat = replace(public(), pixels=torch.full((12, 1, 8, 9), 0.5))
    with pytest.raises(DataError, match="finds 0 patches with texture"):
        given("patches", flat, layer())
    with pytest.raises(DataError, match="smaller than an atom of 3 x 3"):
        given("patches", public(side=2), layer())
