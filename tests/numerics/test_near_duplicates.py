import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from fedsplit.numerics import near_duplicates
from fedsplit.numerics.near_duplicates import near_duplicate_groups, united_groups
from fedsplit.seeding import Seeds


def scenes(count: int, side: int = 32, seed: int = 0) -> Tensor:
    """Smooth pictures that have nothing to do with each other, in the middle of the range."""
    coarse = torch.rand(count, 1, 5, 5, generator=Seeds(seed)("scenes"))
    return 0.25 + 0.5 * F.interpolate(coarse, (side, side), mode="bilinear", align_corners=True)


def together(groups: Tensor) -> set[frozenset[int]]:
    return {frozenset((groups == group).nonzero().flatten().tolist()) for group in groups.unique()}


def naive(pixels: Tensor, labels: Tensor, threshold: float) -> tuple[set[frozenset[int]], float]:
    """Every pair in float64, then a walk over neighbours. -> the groups; how near a distance is to the threshold."""
    flat = pixels.double().flatten(1).numpy()
    flat = flat - flat.mean(1, keepdims=True)
    flat = flat / np.maximum(flat.std(1, keepdims=True), 5 / 255)
    near: list[set[int]] = [{row} for row in range(len(flat))]
    closest = float("inf")
    for first in range(len(flat)):
        for second in range(first):
            distance = float(np.sqrt(((flat[first] - flat[second]) ** 2).mean()))
            closest = min(closest, abs(distance - threshold))
            if labels[first] == labels[second] and distance < threshold:
                near[first].add(second)
                near[second].add(first)
    found: set[frozenset[int]] = set()
    for start in range(len(flat)):
        seen, waiting = {start}, [start]
        while waiting:
            new = near[waiting.pop()] - seen
            seen |= new
            waiting += new
        found.add(frozenset(seen))
    return found, closest


@given(
    seed=st.integers(0, 10**6),
    family=st.lists(st.integers(0, 4), min_size=1, max_size=14),
    classes=st.integers(1, 3),
    spread=st.floats(0.0, 0.2),
    threshold=st.floats(0.05, 1.5),
)
def test_it_agrees_with_a_plain_loop_over_all_pairs(
    seed: int, family: list[int], classes: int, spread: float, threshold: float
) -> None:
    rng = Seeds(seed)("pictures")
    originals = torch.rand(5, 1, 16, 16, generator=rng)
    noise = spread * torch.randn(len(family), 1, 16, 16, generator=rng)
    pixels = (originals[family] + noise).clamp(0, 1)
    labels = torch.randint(0, classes, (len(family),), generator=rng)
    expected, closest = naive(pixels, labels, threshold)
    assume(closest > 1e-4)
    assert together(near_duplicate_groups(pixels, labels, threshold)) == expected


def test_noisy_and_slightly_shifted_copies_are_grouped_and_strangers_are_not() -> None:
    originals = scenes(20, 64)
    noisy = originals + 0.02 * torch.randn(originals.shape, generator=Seeds(0)("noise"))
    shifted = originals.roll(1, -1)
    shifted[..., 0] = originals[..., 0]
    pixels = torch.cat([originals, noisy, shifted])
    groups = near_duplicate_groups(pixels, torch.zeros(60, dtype=torch.long), 0.25)
    assert together(groups) == {frozenset({row, row + 20, row + 40}) for row in range(20)}


def test_groups_never_cross_labels() -> None:
    pixels = scenes(1).repeat(6, 1, 1, 1)
    labels = torch.tensor([0, 1, 0, 2, 1, 0])
    groups = near_duplicate_groups(pixels, labels, 0.5)
    assert together(groups) == {frozenset({0, 2, 5}), frozenset({1, 4}), frozenset({3})}


@given(gain=st.floats(0.3, 1.5), lift=st.floats(-0.1, 0.1))
def test_brightness_and_contrast_change_nothing(gain: float, lift: float) -> None:
    originals = scenes(6)
    pixels = torch.cat([originals, gain * (originals - 0.5) + 0.5 + lift])
    groups = near_duplicate_groups(pixels, torch.zeros(12, dtype=torch.long), 0.05)
    assert together(groups) == {frozenset({row, row + 6}) for row in range(6)}


def test_strangers_are_about_as_far_apart_as_the_docstring_says() -> None:
    pixels = torch.rand(40, 1, 16, 16, generator=Seeds(0)("noise"))
    labels = torch.zeros(40, dtype=torch.long)
    assert len(together(near_duplicate_groups(pixels, labels, 1.2))) == 40
    assert len(together(near_duplicate_groups(pixels, labels, 1.6))) == 1


def test_blank_images_are_grouped_noise_or_not() -> None:
    blank = 0.1 + 0.004 * torch.rand(30, 1, 28, 28, generator=Seeds(0)("noise"))
    pixels = torch.cat([blank, torch.zeros(2, 1, 28, 28), torch.ones(1, 1, 28, 28), scenes(3, 28)])
    groups = near_duplicate_groups(pixels, torch.zeros(36, dtype=torch.long), 0.12)
    assert together(groups) == {frozenset(range(33)), frozenset({33}), frozenset({34}), frozenset({35})}


def test_a_chain_holds_over_all_blocks_and_breaks_where_a_link_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each picture is near the one before and far from all others, as the slices of a scan are."""
    monkeypatch.setattr(near_duplicates, "_BLOCK", 64)
    rng = Seeds(0)("chain")
    steps = torch.randn(500, 1, 16, 16, generator=rng)
    chain = [steps[0]]
    for row in range(1, 500):
        chain.append(steps[row] if row == 300 else 0.98 * chain[-1] + 0.199 * steps[row])
    order = torch.randperm(500, generator=rng)
    pixels = (torch.stack(chain) / 10 + 0.5)[order]
    groups = near_duplicate_groups(pixels, torch.zeros(500, dtype=torch.long), 0.24)
    expected = {
        frozenset((order < 300).nonzero().flatten().tolist()),
        frozenset((order >= 300).nonzero().flatten().tolist()),
    }
    assert together(groups) == expected


def test_thousands_of_blank_images_are_one_group() -> None:
    groups = near_duplicate_groups(torch.zeros(3000, 1, 8, 8), torch.zeros(3000, dtype=torch.long), 0.12)
    assert not groups.any()


def test_a_group_is_named_by_its_first_row() -> None:
    pixels = scenes(4)[[0, 1, 0, 2, 1, 3]]
    assert near_duplicate_groups(pixels, torch.zeros(6, dtype=torch.long), 0.1).tolist() == [0, 1, 0, 3, 1, 5]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 20), (1, 5, 40), (3, 4, 4)])
def test_any_shape_will_do(shape: tuple[int, int, int]) -> None:
    pixels = torch.rand(5, *shape, generator=Seeds(0)("noise"))[[0, 1, 2, 3, 4, 2]]
    groups = near_duplicate_groups(pixels, torch.zeros(6, dtype=torch.long), 0.01)
    assert groups.tolist() == [0, 1, 2, 3, 4, 2]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20))
def test_united_groups_are_the_finest_that_part_neither(pairs: list[tuple[int, int]]) -> None:
    first, second = torch.tensor(pairs).T
    linked = [{other for other, pair in enumerate(pairs) if pair[0] == own[0] or pair[1] == own[1]} for own in pairs]
    expected: set[frozenset[int]] = set()
    for start in range(len(pairs)):
        seen: set[int] = {start}
        while (grown := set[int]().union(*(linked[row] for row in seen))) != seen:
            seen = grown
        expected.add(frozenset(seen))
    assert together(united_groups(first, second)) == expected
