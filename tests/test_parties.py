from itertools import combinations
from math import prod
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsplit import parties
from fedsplit.auxiliary import AuxiliaryImages
from fedsplit.errors import DataError
from fedsplit.numerics.threads import threaded
from fedsplit.parties import Parties, deal, gather
from fedsplit.records.images import Images
from fedsplit.records.leak import Auxiliary
from fedsplit.scenario import Scenario
from fedsplit.seeding import Seeds
from tests import tiny

SETTINGS = (
    "dataset.limit=600",
    "roles={private: 0.4, test: 0.15, auxiliary: 0.25, public: 0.1, evaluation: 0.1}",
    "partition={kind: dirichlet, clients: 3, alpha: 1.0}",
)
SPLITS = ("from: private, count: 40", "from: test, count: 40", "from: private, count: all", "from: test, count: 9999")


def loaded(scenario: Scenario) -> tuple[Images, list[Images]]:
    attacked, *others = (dataset.load() for dataset in scenario.datasets)
    return attacked, others


def gathered(*assignments: str, seed: int = 0) -> tuple[Scenario, Parties]:
    scenario = tiny.scenario(*SETTINGS, *assignments)
    return scenario, gather(scenario, *loaded(scenario), Seeds(seed))


def keys(pixels: Tensor) -> set[bytes]:
    """What tells images apart; no two digits are equal."""
    return {image.float().numpy().tobytes() for image in pixels}


def every_role(parties: Parties) -> list[Tensor]:
    ideal = parties.auxiliary[AuxiliaryImages()]
    adversary = (ideal.images, ideal.validation_images)
    held = torch.cat([holding.pixels for holding in parties.data.holdings])
    return [held, parties.data.test.pixels, parties.data.public.pixels, *adversary]


@pytest.mark.parametrize("targets", SPLITS)
def test_nobody_holds_what_another_role_holds(targets: str) -> None:
    _, parties = gathered(f"targets={{{targets}}}")
    roles = [keys(pixels) for pixels in every_role(parties)]
    assert [len(role) for role in roles] == [240, 90, 60, pytest.approx(127, abs=2), pytest.approx(23, abs=2)]
    assert all(one.isdisjoint(other) for one, other in combinations(roles, 2))


@pytest.mark.parametrize("targets", SPLITS)
def test_the_targets_are_visited_once_and_by_their_role(targets: str) -> None:
    scenario, parties = gathered(f"targets={{{targets}}}")
    held = torch.cat([holding.rows for holding in parties.data.holdings])
    visited = torch.cat([holding.rows for holding in parties.data.visitors])
    assert len(held.unique()) == len(held) == 240
    private = scenario.targets.source == "private"
    pool = 240 if private else 90
    count = pool if not isinstance(scenario.targets.count, int) else min(pool, scenario.targets.count)
    assert len(visited.unique()) == len(visited) == count
    assert bool(torch.isin(visited, held).all()) is private
    watched = torch.cat([holding.rows[holding.watched] for holding in parties.data.holdings])
    assert watched.sort().values.tolist() == (visited.sort().values.tolist() if private else [])
    if private:
        for holding, visitor in zip(parties.data.holdings, parties.data.visitors, strict=True):
            assert bool(torch.isin(visitor.rows, holding.rows).all()), "each client is asked about rows of its own"
    else:
        assert keys(torch.cat([visitor.pixels for visitor in parties.data.visitors])) <= keys(parties.data.test.pixels)


def test_holdings_are_the_rows_that_they_say() -> None:
    _, parties = gathered()
    for holding in (*parties.data.holdings, *parties.data.visitors):
        assert torch.equal(holding.pixels, parties.images.pixels[holding.rows])
        assert torch.equal(holding.labels, parties.images.labels[holding.rows])
        assert torch.equal(holding.weights, torch.ones(len(holding)))
    assert min(map(len, parties.data.holdings)) >= 16, "a client has a whole batch"


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_what_the_adversary_holds_is_a_copy(precision: str) -> None:
    scenario, parties = gathered(f"precision={precision}")
    images = parties.images
    known = [value for value in vars(images).values() if isinstance(value, Tensor)]
    held = (*parties.data.holdings, *parties.data.visitors, parties.data.test, parties.data.public)
    known += [value for each in held for value in vars(each).values() if isinstance(value, Tensor)]
    owned = {tensor.untyped_storage().data_ptr() for tensor in known}
    ideal = parties.auxiliary[AuxiliaryImages()]
    own = [getattr(ideal, name) for name in Auxiliary.__dataclass_fields__]
    assert len(own) == 4 and all(tensor.untyped_storage().data_ptr() not in owned for tensor in own)
    assert ideal.images.dtype == ideal.validation_images.dtype == scenario.dtype
    before = images.pixels.clone()
    ideal.images.fill_(7.0)
    ideal.labels.fill_(7)
    assert torch.equal(images.pixels, before)


def test_a_seed_draws_everything_anew_and_the_same_seed_the_same() -> None:
    first, again, other = (gathered(seed=seed)[1] for seed in (0, 0, 1))
    assert [keys(pixels) for pixels in every_role(first)] == [keys(pixels) for pixels in every_role(again)]
    assert all(keys(one) != keys(two) for one, two in zip(every_role(first), every_role(other), strict=True))


def test_other_targets_move_no_row() -> None:
    few, many = (gathered(f"targets.count={count}")[1] for count in (5, 50))
    for one, two in zip(few.data.holdings, many.data.holdings, strict=True):
        assert torch.equal(one.rows, two.rows)
    rows = [{int(row) for visitor in each.data.visitors for row in visitor.rows} for each in (few, many)]
    assert rows[0] < rows[1], "fewer targets are some of the many"


def test_public_images_may_come_from_elsewhere_and_move_nobody_else() -> None:
    other = "public={dataset: {kind: phantoms, limit: 90, image_size: 12}, count: 50}"
    (_, ideal), (_, found) = gathered(), gathered(other)
    public = found.data.public
    assert public.pixels.shape == (50, 1, 8, 8)
    assert public.class_names != found.images.class_names
    assert keys(public.pixels).isdisjoint(keys(found.images.pixels))
    for one, two in zip(every_role(ideal), every_role(found), strict=True):
        assert torch.equal(one, two) != (two is public.pixels)


def test_a_judge_is_trained_only_where_one_is_needed() -> None:
    assert gathered()[1].evaluator is None
    assert gathered("metrics=[{kind: psnr}, {kind: fid}]")[1].evaluator is not None


def test_the_evaluator_learns_with_the_threads_of_the_scenario() -> None:
    def computing(threads: int) -> int:
        found: list[int] = []
        with threaded(threads), pytest.MonkeyPatch.context() as patch:
            patch.setattr(parties, "train_evaluator", lambda *_: found.append(torch.get_num_threads()))
            gathered("metrics=[{kind: psnr}, {kind: fid}]", "threads=1")
            assert torch.get_num_threads() == threads
        return found[0]

    assert computing(1) == computing(2) == 1


@pytest.mark.parametrize("clients", [241, 10**12])
def test_more_clients_than_rows_are_refused_at_once(clients: int) -> None:
    scenario = tiny.scenario(*SETTINGS, f"partition.clients={clients}")
    with pytest.raises(DataError, match=r"partition\.clients: .* more than the 240 private rows"):
        deal(scenario, scenario.dataset.load(), Seeds(0))


def test_as_many_clients_as_rows_have_one_each() -> None:
    scenario = tiny.scenario(*SETTINGS, "partition={kind: equal, clients: 240}")
    _, owned = deal(scenario, scenario.dataset.load(), Seeds(0))
    assert [len(rows) for rows in owned] == [1] * 240


def test_groups_are_never_parted() -> None:
    scenario = tiny.scenario(*SETTINGS, "partition={kind: equal, clients: 3}")
    images: Any = scenario.dataset.load()
    grouped = Images(images.pixels, images.labels, torch.arange(len(images)) // 4, images.class_names)
    roles, _ = deal(scenario, grouped, Seeds(3))
    parts = [set(grouped.groups[rows].tolist()) for rows in vars(roles).values()]
    assert all(one.isdisjoint(other) for one, other in combinations(parts, 2))
    assert prod(map(len, parts)) > 0
