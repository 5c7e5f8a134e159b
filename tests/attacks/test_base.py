"""What several attacks make of a leak before they look at it."""

from dataclasses import replace

import pytest
import torch

from fedsplit.attacks.base import Attack, Reads, legible
from fedsplit.attacks.inverse_network import InverseNetwork
from fedsplit.attacks.linear_inverse import LinearInverse
from fedsplit.attacks.nearest_neighbour import NearestNeighbour
from fedsplit.records.leak import Leak
from fedsplit.seeding import Seeds
from tests.attacks.leaks import case, flat_client


def answers() -> Leak:
    return replace(case(flat_client, lambda smashed, rng: (9 * smashed).softmax(dim=1)).leak, kind="answers")


def test_confidences_become_logarithms_wherever_they_are() -> None:
    leak = answers()
    read = legible(leak)
    for before, after in zip(parts(leak), parts(read), strict=True):
        torch.testing.assert_close(after, before.clamp(min=1e-12).log())
    assert read.auxiliary is leak.auxiliary


def test_of_a_truncated_vector_the_largest_are_left() -> None:
    leak = answers()
    for before, after in zip(parts(leak), parts(legible(leak, top=3)), strict=True):
        kept = after > after.min()
        assert kept.sum(dim=1).eq(3).all()
        torch.testing.assert_close(after[kept], before[kept].log())
        torch.testing.assert_close((before * kept).sum(dim=1), before.topk(3, dim=1).values.sum(dim=1))


def test_of_equal_confidences_the_first_are_left() -> None:
    draws = torch.tensor([[0.1, 0.3, 0.3, 0.3], [0.25, 0.25, 0.25, 0.25], [0.0, 0.0, 1.0, 0.0]])
    seen = seen_of(draws, top=2)
    least = seen_of(torch.zeros(1, 4)).min()
    kept = torch.tensor([[0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 1, 0]]).bool()
    assert torch.equal(seen > least, kept)
    torch.testing.assert_close(seen[kept].exp(), draws[kept])
    for rounded in parts(legible(answers(), top=3, digits=1)):
        assert (rounded > rounded.min()).sum(dim=1).le(3).all(), "rounding makes draws, and none is let in by one"


@pytest.mark.parametrize("digits", [1, 2, 4])
def test_of_rounded_confidences_no_further_digit_is_left(digits: int) -> None:
    unit = 10.0**-digits
    for before, after in zip(parts(answers()), parts(legible(answers(), digits=digits)), strict=True):
        steps = (before.double() / unit).round()
        assert torch.equal(after, seen_of((steps * unit).float(), digits=digits)), "told by the rounded ones alone"
        off = (steps - before.double() / unit).abs()
        assert (off > 0.01).any()
        # Neither nearer to the next step nor further from it.
        moved = (steps + 0.4 * (2 * torch.rand(steps.shape, generator=Seeds(0)("within")) - 1)) * unit
        assert torch.equal(after, seen_of(moved.clamp(min=0).float(), digits=digits))
        torch.testing.assert_close(after.exp().double(), (steps * unit).clamp(min=unit / 2), rtol=1e-5, atol=0)


def test_a_label_is_where_the_largest_confidence_is_and_says_no_more() -> None:
    doubtful = case(flat_client, lambda smashed, rng: (0.1 * smashed).softmax(dim=1)).leak
    sure, unsure = (parts(legible(one, reads="labels")) for one in (answers(), replace(doubtful, kind="answers")))
    for before, one, other in zip(parts(answers()), sure, unsure, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one.argmax(dim=1), before.argmax(dim=1))
        assert one.unique().tolist() == [0, 1] and one.sum(dim=1).eq(1).all()
    assert seen_of(torch.tensor([[0.2, 0.4, 0.4]]), reads="labels").tolist() == [[0, 1, 0]]


NETWORK = InverseNetwork(epochs=1, learning_rates=(0.003,))


@pytest.mark.parametrize(
    ("attack", "read"),
    [
        (LinearInverse(), legible(answers())),
        (NearestNeighbour(), legible(answers())),
        (NETWORK, legible(answers())),
        (NETWORK.model_copy(update={"top": 3}), legible(answers(), top=3)),
        (NETWORK.model_copy(update={"digits": 1}), legible(answers(), digits=1)),
        (NETWORK.model_copy(update={"reads": "labels"}), legible(answers(), reads="labels")),
    ],
    ids=["linear", "neighbour", "network", "network, truncated", "network, rounded", "network, labels"],
)
def test_attacks_by_examples_look_at_what_is_legible(attack: Attack, read: Leak) -> None:
    read = replace(read, kind="inference")
    found, expected = (attack.reconstruct(leak, Seeds(1)("attack")).images for leak in (answers(), read))
    assert torch.equal(found, expected)
    raw = attack.reconstruct(replace(answers(), kind="inference"), Seeds(1)("attack")).images
    assert not torch.equal(found, raw)


def test_other_leaks_are_as_they_were() -> None:
    leak = case().leak
    assert legible(leak, top=1) is leak
    assert legible(leak, digits=1) is leak
    assert legible(leak, reads="labels") is leak


def seen_of(confidences: torch.Tensor, top: int | None = None, digits: int | None = None, reads: Reads = "confidences"):
    seen = legible(replace(answers().granted(frozenset()), smashed=confidences), top, digits, reads).smashed
    assert seen is not None
    return seen


def parts(leak: Leak) -> list[torch.Tensor]:
    assert leak.smashed is not None and leak.auxiliary_pairs is not None and leak.client_queries is not None
    pairs = leak.auxiliary_pairs
    asked = leak.client_queries(leak.auxiliary.images, Seeds(0)("asked"))
    return [leak.smashed, pairs.smashed, pairs.validation_smashed, asked]
