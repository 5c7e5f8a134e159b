import hashlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedsplit.seeding import Seeds, drawn_from

PARTS = st.lists(st.integers(0, 99) | st.text("ab", min_size=1, max_size=3), min_size=1, max_size=3)


def draw(seeds: Seeds, *name: str | int) -> float:
    return torch.rand((), generator=seeds(*name), dtype=torch.float64).item()


@given(st.integers(0, 9), PARTS, st.integers(0, 9), PARTS)
def test_streams_are_the_same_exactly_if_their_names_are(root: int, name: list, other_root: int, other: list) -> None:
    same = root == other_root and [str(part) for part in name] == [str(part) for part in other]
    assert (Seeds(root).number(*name) == Seeds(other_root).number(*other)) == same


def test_numbers_and_drawings_are_far_apart() -> None:
    names = [("train", number, client) for number in range(20) for client in range(20)]
    assert len({draw(Seeds(0), *name) for name in names}) == len(names)


def test_a_stream_begins_anew_whenever_it_is_asked_for() -> None:
    seeds = Seeds(3)
    before = draw(seeds, "a")
    draw(seeds, "b")
    torch.rand(7)
    assert draw(seeds, "a") == before


def test_a_child_is_a_prefix() -> None:
    assert Seeds(1).child("a", 2).number("b") == Seeds(1).number("a", 2, "b")
    assert Seeds(1).child("a").child(2) == Seeds(1).child("a", 2)


@given(st.integers(0, 2**63 - 1), PARTS)
def test_a_seed_fits_a_generator(root: int, name: list) -> None:
    assert 0 <= Seeds(root).number(*name) < 2**63


def test_names_mean_the_same_in_every_process() -> None:
    digest = hashlib.sha256(b"4/train/1/x").hexdigest()
    assert Seeds(4).number("train", 1, "x") == int(digest[:16], 16) // 2


def test_fork_draws_from_its_stream_and_restores_the_global_state() -> None:
    before = torch.random.get_rng_state()
    with Seeds(0).fork("model"):
        first = torch.nn.Linear(3, 3).weight.detach().clone()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(5)
    with Seeds(0).fork("model"):
        assert torch.equal(torch.nn.Linear(3, 3).weight, first)
    with Seeds(0).fork("other"):
        assert not torch.equal(torch.nn.Linear(3, 3).weight, first)


def test_fork_restores_the_global_state_after_an_exception() -> None:
    before = torch.random.get_rng_state()
    with pytest.raises(RuntimeError, match="size"), Seeds(0).fork("model"):
        torch.rand(3).view(2)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_forks_nest() -> None:
    with Seeds(0).fork("outer"):
        expected = torch.rand(2)
    with Seeds(0).fork("outer"):
        first = torch.rand(1)
        with Seeds(0).fork("inner"):
            torch.rand(9)
        assert torch.equal(torch.cat([first, torch.rand(1)]), expected)


def test_a_block_that_draws_globally_draws_the_next_ones_of_a_stream() -> None:
    before = torch.random.get_rng_state()
    expected = torch.randn(7, generator=Seeds(0)("question"))
    rng = Seeds(0)("question")
    first = torch.randn(2, generator=rng)
    with drawn_from(rng):
        second = torch.randn(3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(torch.cat([first, second, torch.randn(2, generator=rng)]), expected)


def test_a_block_that_draws_nothing_or_fails_leaves_both_streams_in_order() -> None:
    before, rng = torch.random.get_rng_state(), Seeds(0)("question")
    untouched = rng.get_state()
    with drawn_from(rng):
        pass
    assert torch.equal(rng.get_state(), untouched)
    with pytest.raises(RuntimeError, match="size"), drawn_from(rng):
        torch.rand(3).view(2)
    assert torch.equal(torch.random.get_rng_state(), before)
