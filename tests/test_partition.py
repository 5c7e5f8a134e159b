from collections.abc import Callable
from dataclasses import fields

import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from fedsplit.errors import DataError
from fedsplit.partition import ByClass, Dirichlet, Drawn, Equal, Partition, Roles
from fedsplit.records.images import Images
from fedsplit.seeding import Seeds
from tests.datasets.fixtures import refusal

partitions: TypeAdapter[Partition] = TypeAdapter(Partition)
SHARES = {"private": 0.5, "test": 0.15, "auxiliary": 0.2125, "validation": 0.0375, "public": 0.05, "evaluation": 0.05}


def images_of(labels: Tensor, groups: Tensor | None = None) -> Images:
    groups = torch.arange(len(labels)) if groups is None else groups
    names = tuple(str(number) for number in range(int(labels.max()) + 1))
    return Images(torch.zeros(len(labels), 1, 1, 1), labels, groups, names)


def roles_of(drawn: Drawn) -> dict[str, Tensor]:
    return {field.name: getattr(drawn, field.name) for field in fields(drawn)}


@st.composite
def grouped(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Labels of some classes, and groups within them."""
    rng = Seeds(draw(st.integers(0, 10**6)))("images")
    labels = torch.randint(0, draw(st.integers(1, 5)), (draw(st.integers(100, 400)),), generator=rng)
    kinds = draw(st.integers(20, 400))
    return labels, labels * kinds + torch.randint(0, kinds, (len(labels),), generator=rng)


@settings(max_examples=40)
@given(grouped(), st.integers(0, 10**6))
def test_roles_are_disjoint_and_together_all_rows(found: tuple[Tensor, Tensor], seed: int) -> None:
    try:
        drawn = roles_of(Roles().draw(images_of(*found), Seeds(seed)("roles")))
    except DataError:
        reject()  # large groups may leave a small role empty
    assert torch.cat([*drawn.values()]).sort().values.tolist() == list(range(len(found[0])))
    assert all(torch.equal(rows, rows.sort().values) for rows in drawn.values())


@settings(max_examples=40)
@given(grouped(), st.integers(0, 10**6))
def test_no_group_is_parted(found: tuple[Tensor, Tensor], seed: int) -> None:
    labels, groups = found
    try:
        drawn = roles_of(Roles().draw(images_of(labels, groups), Seeds(seed)("roles")))
    except DataError:
        reject()
    held = [set(groups[rows].tolist()) for rows in drawn.values()]
    assert sum(map(len, held)) == len(groups.unique())


@settings(max_examples=40)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=30), st.integers(0, 10**6))
def test_shares_are_kept_to_a_row_or_two_in_each_class_and_in_all(counts: list[int], seed: int) -> None:
    counts = [*counts, 120]
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    for role, rows in roles_of(Roles().draw(images_of(labels), Seeds(seed)("roles"))).items():
        own = torch.bincount(labels[rows], minlength=len(counts))
        assert (own - SHARES[role] * torch.tensor(counts)).abs().max() <= 2
        assert abs(len(rows) - SHARES[role] * len(labels)) <= 2


def test_many_small_classes_leave_no_small_role_empty() -> None:
    labels = torch.arange(158).repeat_interleave(10)
    drawn = roles_of(Roles().draw(images_of(labels), Seeds(0)("roles")))
    assert {role: len(rows) for role, rows in drawn.items()} == pytest.approx(
        {role: share * 1580 for role, share in SHARES.items()}, abs=2
    )


def test_each_role_sees_each_class() -> None:
    labels = torch.arange(6).repeat(80)
    for rows in roles_of(Roles().draw(images_of(labels), Seeds(0)("roles"))).values():
        assert len(labels[rows].unique()) == 6


def test_a_class_of_large_groups_leaves_the_next_one_as_it_should_be() -> None:
    labels = torch.arange(2).repeat_interleave(2000)
    groups = torch.where(labels == 0, torch.arange(4000) // 100, torch.arange(4000))
    for role, rows in roles_of(Roles().draw(images_of(labels, groups), Seeds(0)("roles"))).items():
        shares = torch.bincount(labels[rows], minlength=2) / 2000
        assert shares[1] == pytest.approx(SHARES[role], abs=0.002)
        assert shares[0] == pytest.approx(SHARES[role], abs=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_single_images_even_out_what_large_groups_left(seed: int) -> None:
    groups = torch.cat([torch.zeros(100), torch.ones(60), torch.arange(2, 842)]).long()
    images = images_of(torch.zeros(1000, dtype=torch.long), groups)
    for role, rows in roles_of(Roles().draw(images, Seeds(seed)("roles"))).items():
        assert len(rows) == pytest.approx(1000 * SHARES[role], abs=2)


def test_what_no_role_has_a_share_of_is_left() -> None:
    roles = Roles(private=0.3, test=0.2, auxiliary=0.1, public=0, evaluation=0)
    drawn = roles_of(roles.draw(images_of(torch.arange(4).repeat(250)), Seeds(0)("roles")))
    assert len(drawn["public"]) == len(drawn["evaluation"]) == 0
    assert len(torch.cat([*drawn.values()]).unique()) == pytest.approx(600, abs=4)


def test_roles_depend_on_the_seed_alone() -> None:
    images = images_of(torch.arange(4).repeat(60))
    first, again, other = (roles_of(Roles().draw(images, Seeds(seed)("roles"))) for seed in (0, 0, 1))
    assert all(torch.equal(first[role], again[role]) for role in first)
    assert any(not torch.equal(first[role], other[role]) for role in first)


def test_a_role_without_rows_is_one_line() -> None:
    assert "roles." in refusal(lambda: Roles().draw(images_of(torch.arange(8) % 2), Seeds(0)("roles")))
    one_group = images_of(torch.zeros(500, dtype=torch.long), torch.zeros(500, dtype=torch.long))
    assert "gets no row of 500" in refusal(lambda: Roles().draw(one_group, Seeds(0)("roles")))


@pytest.mark.parametrize(
    "shares", [{"private": 0.9}, {"private": 0.0}, {"test": 0}, {"validation": 0}, {"public": 1.1}]
)
def test_shares_that_cannot_be_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Roles(**shares)  # pyright: ignore[reportArgumentType]


PARTITIONS: list[Callable[[int], Partition]] = [
    lambda clients: Equal(clients=clients),
    lambda clients: ByClass(clients=clients, classes_per_client=2),
    lambda clients: Dirichlet(clients=clients, alpha=0.5),
    lambda clients: Dirichlet(clients=clients, alpha=0.01),
    lambda clients: Dirichlet(clients=clients, alpha=1000.0),
]


@settings(max_examples=25)
@given(
    labels=st.lists(st.integers(0, 4), min_size=80, max_size=200).map(torch.tensor),
    clients=st.integers(1, 5),
    minimum=st.integers(1, 8),
    seed=st.integers(0, 10**6),
)
@pytest.mark.parametrize("made", PARTITIONS, ids=["equal", "by_class", "dirichlet", "sharp", "flat"])
def test_clients_own_all_rows_once_and_enough_of_them(
    made: Callable[[int], Partition], labels: Tensor, clients: int, minimum: int, seed: int
) -> None:
    try:
        owned = made(clients).owners(labels, minimum, Seeds(seed)("partition"))
    except DataError:
        reject()  # classes may be fewer than can be dealt so
    assert len(owned) == clients
    assert min(map(len, owned)) >= minimum
    assert torch.cat(owned).sort().values.tolist() == list(range(len(labels)))
    assert all(torch.equal(rows, rows.sort().values) for rows in owned)


@pytest.mark.parametrize("made", PARTITIONS)
def test_a_partition_depends_on_the_seed_alone(made: Callable[[int], Partition]) -> None:
    labels = torch.arange(5).repeat(200)
    first, again, other = (made(4).owners(labels, 1, Seeds(seed)("partition")) for seed in (0, 0, 1))
    assert all(torch.equal(one, same) for one, same in zip(first, again, strict=True))
    assert any(not torch.equal(one, another) for one, another in zip(first, other, strict=True))


def test_too_few_rows_are_one_line() -> None:
    labels = torch.arange(30) % 3
    for made in PARTITIONS:
        assert "partition" in refusal(lambda made=made: made(4).owners(labels, 20, Seeds(0)("partition")))


@given(count=st.integers(10, 300), clients=st.integers(1, 10))
def test_equal_sizes_differ_by_at_most_one(count: int, clients: int) -> None:
    sizes = [len(rows) for rows in Equal(clients=clients).owners(torch.zeros(count), 1, Seeds(0)("partition"))]
    assert max(sizes) - min(sizes) <= 1


@given(classes=st.integers(2, 8), clients=st.integers(2, 12), each=st.integers(1, 8))
def test_by_class_gives_each_client_so_many_classes(classes: int, clients: int, each: int) -> None:
    labels = torch.arange(classes).repeat(clients * 3)
    partition = ByClass(clients=clients, classes_per_client=each)
    if each > classes or clients * each < classes:
        assert "classes_per_client" in refusal(lambda: partition.owners(labels, 1, Seeds(0)("partition")))
        return
    for rows in partition.owners(labels, 1, Seeds(0)("partition")):
        assert len(labels[rows].unique()) == each


def shares_of(alpha: float) -> Tensor:
    """(classes, 4), the clients' shares of many classes."""
    labels = torch.arange(500).repeat(100)
    owned = Dirichlet(clients=4, alpha=alpha).owners(labels, 0, Seeds(0)("partition"))
    return torch.stack([torch.bincount(labels[rows], minlength=500) for rows in owned], dim=1).double() / 100


def test_a_dirichlet_of_large_alpha_is_alike_and_one_of_small_alpha_is_not() -> None:
    labels = torch.arange(5).repeat(400)

    def largest_share(alpha: float) -> float:
        owned = Dirichlet(clients=5, alpha=alpha).owners(labels, 1, Seeds(0)("partition"))
        counts = torch.stack([torch.bincount(labels[rows], minlength=5) for rows in owned]) / 400
        return float(counts.max(dim=0).values.mean())

    assert largest_share(1000.0) < 0.25
    assert largest_share(0.05) > 0.8


def test_dirichlet_shares_have_the_distributions_mean_and_variance() -> None:
    """Of a symmetric Dirichlet of k parts, each share has mean 1/k and variance (k - 1) / (k^2 (k alpha + 1))."""
    labels = torch.zeros(2000, dtype=torch.long)
    draws = [Dirichlet(clients=4, alpha=0.5).owners(labels, 0, Seeds(seed)("partition")) for seed in range(400)]
    shares = torch.tensor([[len(rows) / 2000 for rows in owned] for owned in draws], dtype=torch.float64)
    assert shares.mean(0).tolist() == pytest.approx([0.25] * 4, abs=0.04)
    assert float(shares.var(0).mean()) == pytest.approx(3 / (16 * 3), rel=0.12)


@pytest.mark.parametrize("alpha", [0.003, 0.05, 2.0])
def test_shares_are_as_uneven_as_the_distribution_has_them(alpha: float) -> None:
    """The expected sum of squares of a symmetric Dirichlet's k shares is (alpha + 1) / (k alpha + 1)."""
    assert float(shares_of(alpha).square().sum(1).mean()) == pytest.approx((alpha + 1) / (4 * alpha + 1), rel=0.04)


@pytest.mark.parametrize("alpha", [1e-3, 1e-4, 1e-9, 1e-300, 5e-324])
def test_of_a_vanishing_alpha_one_client_has_a_class_and_each_as_often(alpha: float) -> None:
    largest, owner = shares_of(alpha).max(1)
    # A second client's share is above s with a probability of about -3 alpha log s, and a row is a hundredth.
    assert float((largest == 1).double().mean()) >= 1 - 50 * alpha
    assert (torch.bincount(owner, minlength=4) / len(owner)).tolist() == pytest.approx([0.25] * 4, abs=0.06)


@pytest.mark.parametrize("alpha", [1e4, 1e300, 1.7e308])
def test_of_a_vast_alpha_all_have_the_same(alpha: float) -> None:
    assert float((shares_of(alpha) - 0.25).abs().max()) < 0.03


@pytest.mark.parametrize("partition", [Equal(clients=3), ByClass(classes_per_client=1), Dirichlet(alpha=0.1)])
def test_a_partition_survives_its_file(partition: Partition) -> None:
    assert partitions.validate_json(partitions.dump_json(partition)) == partition
