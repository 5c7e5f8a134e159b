"""Fast products are those of the dictionary, whichever way they are computed, and however many samples there are."""

import pytest
import torch
from hypothesis import given, settings

from fedsplit.numerics import products
from fedsplit.numerics.dictionary import Dictionary
from fedsplit.seeding import Seeds
from tests.numerics.dictionaries import codes_and_images, dictionaries

WAYS = pytest.mark.parametrize("few", [0, 9], ids=["convolutions", "windows"])


def products_of(dictionary: Dictionary, few: int) -> products.Products:
    """As if so many channels were few."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "_FEW_CHANNELS", few)
        return products.products(dictionary)


@WAYS
@settings(max_examples=40)
@given(dictionary=dictionaries())
def test_they_are_those_of_the_dictionary(few: int, dictionary: Dictionary):
    fast, (codes, images) = products_of(dictionary, few), codes_and_images(dictionary)
    synthesis, correlation = dictionary.synthesise(codes), dictionary.correlate(images)
    torch.testing.assert_close(fast.synthesise(codes), synthesis, rtol=0, atol=1e-12)
    torch.testing.assert_close(fast.residual(images, codes), images - synthesis, rtol=0, atol=1e-12)
    torch.testing.assert_close(fast.correlate(images), correlation, rtol=0, atol=1e-12)


@WAYS
@settings(max_examples=40)
@given(dictionary=dictionaries())
def test_what_is_written_in_place_is_no_other(few: int, dictionary: Dictionary):
    fast, (codes, images) = products_of(dictionary, few), codes_and_images(dictionary)
    arranged, room = fast.arrange(codes.clone()), fast.arrange(torch.full_like(codes, torch.nan))
    expected = codes + 0.3 * (dictionary.correlate(images) - 0.2)
    moved = fast.descend(arranged, fast.arrange(images), 0.3, 0.2)
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-12)
    assert moved.data_ptr() == arranged.data_ptr()
    correlation = fast.correlate(fast.arrange(images), out=room)
    torch.testing.assert_close(correlation, dictionary.correlate(images), rtol=0, atol=1e-12)


@WAYS
def test_memory_that_is_kept_does_not_show(few: int):
    rng = Seeds(0)("images")
    dictionary = Dictionary(torch.randn(3, 1, 3, 3, generator=rng), (6, 5), 2, 1)
    fast = products_of(dictionary, few)
    for count in (2, 7, 3, 1):
        images, codes = torch.randn(count, 1, 6, 5, generator=rng), torch.randn(count, 3, 3, 3, generator=rng)
        torch.testing.assert_close(fast.correlate(images), dictionary.correlate(images))
        torch.testing.assert_close(fast.synthesise(codes), dictionary.synthesise(codes))
