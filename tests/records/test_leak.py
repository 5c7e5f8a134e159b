from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedsplit.records.leak import (
    IMPLIED,
    PER_TARGET,
    Asset,
    Auxiliary,
    ClientSegment,
    Leak,
    Pairs,
    closure,
)
from tests.records.contents import tensors_of

ASSETS = st.frozensets(st.sampled_from(list(Asset)))
FIELDS = [asset.value for asset in Asset]


def full_leak() -> Leak:
    rows = torch.arange(4.0)
    return Leak(
        kind="training",
        round=3,
        image_shape=(1, 2, 2),
        classes=5,
        auxiliary=Auxiliary(torch.rand(3, 1, 2, 2), torch.zeros(3), torch.rand(2, 1, 2, 2), torch.zeros(2)),
        smashed=rows.view(4, 1),
        cut_gradients=10 * rows.view(4, 1),
        labels=rows.long(),
        head_gradients=7 * rows.view(4, 1),
        auxiliary_pairs=Pairs(torch.rand(3, 1), torch.rand(2, 1)),
        client_queries=lambda images, rng: images,
        client_weights=ClientSegment(nn.Linear(2, 2), (nn.BatchNorm1d(2), nn.Linear(2, 1))),
        server_segments=(nn.Linear(1, 1),),
        defense="a defense",
        repeats=4,
        scores=lambda images, rng: images,
        model=nn.Linear(3, 5),
        wanted=torch.arange(4),
        learned={"codes": torch.rand(3), "losses": torch.rand(2)},
    )


@given(ASSETS)
def test_closure_adds_exactly_what_is_implied_and_nothing_more_the_second_time(assets: frozenset[Asset]) -> None:
    closed = closure(assets)
    assert assets <= closed
    assert closure(closed) == closed
    assert all(IMPLIED.get(asset, frozenset()) <= closed for asset in closed)
    assert all(any(added in IMPLIED.get(asset, ()) for asset in assets) for added in closed - assets)


@given(ASSETS, ASSETS)
def test_more_assets_never_imply_fewer(some: frozenset[Asset], others: frozenset[Asset]) -> None:
    assert closure(some) | closure(others) == closure(some | others)


def test_weights_imply_queries_and_queries_imply_pairs() -> None:
    assert closure(frozenset({Asset.CLIENT_WEIGHTS})) == {
        Asset.CLIENT_WEIGHTS,
        Asset.CLIENT_QUERIES,
        Asset.AUXILIARY_PAIRS,
    }
    assert closure(frozenset({Asset.CLIENT_QUERIES})) == {Asset.CLIENT_QUERIES, Asset.AUXILIARY_PAIRS}


@pytest.mark.parametrize("count", range(len(Asset) + 1))
def test_a_leak_has_the_fields_of_the_granted_assets_and_no_other(count: int) -> None:
    leak = full_leak()
    for granted in combinations(Asset, count):
        view = leak.granted(frozenset(granted))
        for name in FIELDS:
            assert getattr(view, name) is (getattr(leak, name) if Asset(name) in granted else None)
        assert (view.kind, view.round, view.image_shape, view.classes) == ("training", 3, (1, 2, 2), 5)
        assert view.auxiliary is leak.auxiliary and view.learned is leak.learned


@given(st.permutations(range(4)))
def test_a_permutation_moves_everything_about_one_target_together(order: list[int]) -> None:
    leak = full_leak()
    moved = leak.permuted(torch.tensor(order))
    assert moved.smashed is not None
    assert moved.cut_gradients is not None
    assert moved.labels is not None
    assert moved.smashed.flatten().tolist() == order
    assert moved.cut_gradients.flatten().tolist() == [10 * place for place in order]
    assert moved.labels.tolist() == order
    for name in set(FIELDS) - set(PER_TARGET):
        assert getattr(moved, name) is getattr(leak, name)


def test_a_permutation_leaves_absent_fields_absent() -> None:
    view = full_leak().granted(frozenset({Asset.SMASHED}))
    moved = view.permuted(torch.tensor([3, 2, 1, 0]))
    assert moved.cut_gradients is None
    assert moved.labels is None
    assert moved.smashed is not None
    assert moved.smashed.flatten().tolist() == [3, 2, 1, 0]


def test_every_field_with_a_row_per_target_is_permuted() -> None:
    leak = full_leak()
    assert leak.smashed is not None
    rows = len(leak.smashed)
    named = [*FIELDS, "wanted"]
    per_target = {
        name for name in named if isinstance(value := getattr(leak, name), torch.Tensor) and len(value) == rows
    }
    assert per_target == set(PER_TARGET)


def test_all_tensors_of_a_leak_are_found() -> None:
    leak = full_leak()
    # 4 of auxiliary, 5 per target, 2 of pairs; linear 2, batch norm 5, linear 2, linear 2; the model 2; 2 learned.
    assert len(tensors_of(leak)) == 4 + 5 + 2 + 2 + 5 + 2 + 2 + 2 + 2
    assert len(tensors_of(leak.granted(frozenset()))) == 4 + 1 + 2
    addresses = {tensor.data_ptr() for tensor in tensors_of(leak)}
    assert leak.client_weights is not None
    buffer = leak.client_weights.returned[0].get_buffer("running_var")
    assert buffer.data_ptr() in addresses
