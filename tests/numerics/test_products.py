"""Fast products are those of the dictionary, whichever way they are computed, and however many samples there are."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import assume, given, settings

from fedsplit.numerics import products
from fedsplit.numerics.dictionary import Dictionary
from fedsplit.seeding import Seeds
from tests.numerics.dictionaries import codes_and_images, dictionaries

LARGE = Dictionary(torch.zeros(28, 16, 5, 5), (12, 12), 1, 2)
has_transforms = pytest.mark.skipif(not products.faster_alone(LARGE), reason="torch is without NNPACK here")
WAYS = pytest.mark.parametrize("windows", [False, True], ids=["convolutions", "windows"])


def products_of(dictionary: Dictionary, windows: bool) -> products.Products:
    """As if windows paid always, or never."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "_windows_pay", lambda _: windows)
        return products.products(dictionary)


@WAYS
@settings(max_examples=40)
@given(dictionary=dictionaries())
def test_they_are_those_of_the_dictionary(windows: bool, dictionary: Dictionary):
    fast, (codes, images) = products_of(dictionary, windows), codes_and_images(dictionary)
    synthesis, correlation = dictionary.synthesise(codes), dictionary.correlate(images)
    torch.testing.assert_close(fast.synthesise(codes), synthesis, rtol=0, atol=1e-12)
    torch.testing.assert_close(fast.residual(images, codes), images - synthesis, rtol=0, atol=1e-12)
    torch.testing.assert_close(fast.correlate(images), correlation, rtol=0, atol=1e-12)
    torch.testing.assert_close(fast.correlate(images, price=0.3), correlation - 0.3, rtol=0, atol=1e-12)


@WAYS
@settings(max_examples=40)
@given(dictionary=dictionaries())
def test_what_is_written_in_place_is_no_other(windows: bool, dictionary: Dictionary):
    fast, (codes, images) = products_of(dictionary, windows), codes_and_images(dictionary)
    arranged, room = fast.arrange(codes.clone()), fast.arrange(torch.full_like(codes, torch.nan))
    expected = codes + 0.3 * (dictionary.correlate(images) - 0.2)
    moved = fast.descend(arranged, fast.arrange(images), 0.3, 0.2)
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-12)
    assert moved.data_ptr() == arranged.data_ptr()
    correlation = fast.correlate(fast.arrange(images), out=room)
    torch.testing.assert_close(correlation, dictionary.correlate(images), rtol=0, atol=1e-12)


@WAYS
def test_memory_that_is_kept_does_not_show(windows: bool):
    rng = Seeds(0)("images")
    dictionary = Dictionary(torch.randn(3, 1, 3, 3, generator=rng), (6, 5), 2, 1)
    fast = products_of(dictionary, windows)
    for count in (2, 7, 3, 1):
        images, codes = torch.randn(count, 1, 6, 5, generator=rng), torch.randn(count, 3, 3, 3, generator=rng)
        torch.testing.assert_close(fast.correlate(images), dictionary.correlate(images))
        torch.testing.assert_close(fast.synthesise(codes), dictionary.synthesise(codes))


@has_transforms
@settings(max_examples=40)
@given(dictionary=dictionaries(longest_stride=1))
def test_transforms_are_those_of_the_dictionary(dictionary: Dictionary):
    assume(dictionary.atoms.shape[-1] > 3)
    codes, images = (tensor.float() for tensor in codes_and_images(dictionary))
    dictionary = replace(dictionary, atoms=dictionary.atoms.float())
    fast = products._Transforms(dictionary)
    synthesis, correlation = dictionary.synthesise(codes), dictionary.correlate(images)
    close = partial(torch.testing.assert_close, rtol=1e-5, atol=2e-6)
    close(fast.synthesise(codes), synthesis)
    close(fast.residual(images, codes), images - synthesis)
    close(fast.correlate(images, price=0.3, out=torch.full_like(codes, torch.nan)), correlation - 0.3)
    close(fast.descend(codes.clone(), images, 0.3, 0.2), codes + 0.3 * (correlation - 0.2))


@pytest.mark.parametrize(
    ("features", "channels", "windows"), [(4, 1, True), (8, 3, False), (64, 3, True), (28, 16, False)]
)
def test_windows_are_for_many_atoms_of_few_channels(features: int, channels: int, windows: bool):
    dictionary = Dictionary(torch.zeros(features, channels, 5, 5, dtype=torch.float64), (8, 8))
    assert type(products.products(dictionary)) is type(products_of(dictionary, windows))


@has_transforms
@pytest.mark.parametrize(
    ("dictionary", "pays"),
    [
        (LARGE, True),
        (replace(LARGE, stride=2), False),
        (replace(LARGE, atoms=LARGE.atoms.double()), False),
        (replace(LARGE, atoms=torch.zeros(16, 1, 5, 5)), False),
        (replace(LARGE, atoms=torch.zeros(16, 3, 7, 7)), True),
    ],
    ids=["large", "strided", "float64", "one channel", "large atoms of few channels"],
)
def test_transforms_are_for_many_multiplications(dictionary: Dictionary, pays: bool):
    assert products.faster_alone(dictionary) is pays
    assert isinstance(products.products(dictionary), products._Transforms) is (pays and torch.get_num_threads() == 1)
