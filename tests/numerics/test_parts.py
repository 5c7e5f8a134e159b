"""However a batch is divided, among parts and threads, its samples come back in order and as they would alone."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies

from fedsplit.numerics import parts
from fedsplit.numerics.active_set import ActiveSet
from fedsplit.numerics.dictionary import Dictionary, normalised
from fedsplit.numerics.lasso import Lasso
from fedsplit.numerics.parts import in_parts
from fedsplit.numerics.products import Products, faster_alone
from fedsplit.numerics.spectral import Spectral
from fedsplit.seeding import Seeds

LARGE = Dictionary(normalised(torch.randn(28, 16, 5, 5, generator=Seeds(0)("atoms"))), (12, 12), 1, 2)
SMALL = replace(LARGE, atoms=LARGE.atoms[:4, :1])
has_transforms = pytest.mark.skipif(not faster_alone(LARGE), reason="torch is without NNPACK here")


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def two_threads() -> Iterator[None]:
    with threads(2):
        yield


def rows_of(fast: Products, rows: slice) -> tuple[slice, int, bool]:
    del fast
    return rows, torch.get_num_threads(), torch.is_grad_enabled()


@settings(max_examples=30)
@given(count=strategies.integers(0, 40), at_once=strategies.integers(1, 9))
def test_every_sample_is_in_one_part_that_fits(count: int, at_once: int):
    with threads(1), pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "_CACHED_BYTES", at_once * 28 * 12 * 12 * 4)
        found = [rows for rows, _, _ in in_parts(LARGE, count, rows_of)]
    assert [row for rows in found for row in range(count)[rows]] == list(range(count))
    sizes = [rows.stop - rows.start for rows in found]
    assert max(sizes) <= at_once
    assert max(sizes) - min(sizes) <= 1


@has_transforms
@pytest.mark.usefixtures("two_threads")
def test_threads_that_work_alone_have_a_share_each_and_no_graph():
    assert in_parts(LARGE, 16, rows_of) == [(slice(0, 8), 1, False), (slice(8, 16), 1, False)]
    assert in_parts(LARGE, 7, rows_of) == [(slice(0, 7), 2, False)]
    assert not faster_alone(SMALL)
    assert in_parts(SMALL, 16, rows_of) == [(slice(0, 16), 2, False)]


@pytest.mark.usefixtures("two_threads")
def test_other_threads_have_as_many_as_before():
    in_parts(LARGE, 16, rows_of)
    found: list[int] = []
    late = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    late.start()
    late.join()
    assert (found, torch.get_num_threads()) == ([2], 2)


@has_transforms
@pytest.mark.usefixtures("two_threads")
def test_what_a_helper_raises_arrives():
    def fails(fast: Products, rows: slice) -> None:
        del fast
        if rows.start:
            raise ValueError("the second share")

    with pytest.raises(ValueError, match="the second share"):
        in_parts(LARGE, 16, fails)
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_codes_and_gradients_are_the_same_on_one_thread_and_on_two():
    images = torch.randn(16, 16, 12, 12, generator=Seeds(1)("images"))
    lasso = Lasso(images, LARGE, 0.5, True, LARGE.bound())

    def found() -> tuple[torch.Tensor, torch.Tensor]:
        codes = Spectral(0.05, 40).solve(lasso).codes
        return codes, ActiveSet(LARGE, codes != 0).solve(torch.ones_like(codes))

    on_two = found()
    with threads(1):
        on_one = found()
    assert all(torch.equal(one, two) for one, two in zip(on_one, on_two, strict=True))
