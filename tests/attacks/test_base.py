"""What several attacks make of a leak before they look at it."""

from dataclasses import replace

import pytest
import torch

from fedsplit.attacks.base import Attack, legible
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


@pytest.mark.parametrize(
    ("attack", "top"),
    [
        (LinearInverse(), None),
        (NearestNeighbour(), None),
        (InverseNetwork(epochs=1, learning_rates=(0.003,)), None),
        (InverseNetwork(epochs=1, learning_rates=(0.003,), top=3), 3),
    ],
    ids=["linear", "neighbour", "network", "network, truncated"],
)
def test_attacks_by_examples_look_at_logarithms(attack: Attack, top: int | None) -> None:
    read = replace(legible(answers(), top), kind="inference")
    found, expected = (attack.reconstruct(leak, Seeds(1)("attack")).images for leak in (answers(), read))
    assert torch.equal(found, expected)
    raw = attack.reconstruct(replace(answers(), kind="inference"), Seeds(1)("attack")).images
    assert not torch.equal(found, raw)


def test_other_leaks_are_as_they_were() -> None:
    leak = case().leak
    assert legible(leak, top=1) is leak


def parts(leak: Leak) -> list[torch.Tensor]:
    assert leak.smashed is not None and leak.auxiliary_pairs is not None and leak.client_queries is not None
    pairs = leak.auxiliary_pairs
    asked = leak.client_queries(leak.auxiliary.images, Seeds(0)("asked"))
    return [leak.smashed, pairs.smashed, pairs.validation_smashed, asked]
