"""Every hook, used by a small plug-in, does what the contract says at the moment the contract says."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Generator, Tensor

from fedsplit.defenses.base import Defense
from fedsplit.federation.exposure import Observation, expose
from fedsplit.federation.ledger import Recording
from fedsplit.federation.plan import Plan
from fedsplit.federation.roles import FederationData
from fedsplit.federation.trained import Trained
from fedsplit.models.lenet import LeNet
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from tests.defenses import plugins
from tests.federation.builders import (
    SHAPE,
    assert_same,
    auxiliary,
    federation,
    first_task,
    holding,
    images,
    joined,
    local_round,
    plan_of,
    started,
    train,
)

EVERYTHING = 1000
RECORDING = Recording(training=(1,), inference=(1,))


def leaks(trained: Trained, plan: Plan, data: FederationData) -> tuple[Tensor, Tensor, Tensor]:
    """Smashed data of the targets in training and at inference, and of the adversary's own images."""
    seen = [
        expose(plan, trained, data, auxiliary(), Observation(kind, 1, True)).leak for kind in ("training", "inference")
    ]
    assert seen[0].smashed is not None
    assert seen[1].smashed is not None
    assert seen[1].auxiliary_pairs is not None
    return seen[0].smashed, seen[1].smashed, seen[1].auxiliary_pairs.smashed


# build


def test_build_changes_the_architecture_and_its_parameters_learn(tmp_path: Path) -> None:
    plan = plan_of(defense=plugins.Stem())
    segments = plan.segments()
    assert segments.client.names == ("stem", "rows")
    _, start = started(plan, images(3, seed=0))
    trained = train(tmp_path, plan, federation())
    assert not torch.equal(trained.standing.client["stem.weight"], start.client["stem.weight"])


def test_build_may_move_the_cut() -> None:
    segments = plan_of(defense=plugins.CutBehindStem()).segments()
    assert segments.client.names == ("first",)
    assert segments.cut_shape == SHAPE


# warm_start


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_frozen_blocks_stay_as_they_are_to_the_last_bit_buffers_included(precision: Any, tmp_path: Path) -> None:
    names = ("conv1", "norm1", "norm2", "dense2")
    plan = plan_of(
        model=LeNet(channels=2, batch_norm=True), cut="relu1", defense=plugins.Frozen(names=names), precision=precision
    )
    data = federation()
    frozen_plan, start = started(plan, data.public)
    untouched = plan.segments()
    assert frozen_plan.frozen == names
    standing = train(tmp_path, plan, data, SplitFedV1(rounds=3, batch_size=6)).standing
    assert not torch.equal(start.client["norm1.running_mean"], untouched.client.state_dict()["norm1.running_mean"])
    before, after = {**start.client, **start.server}, joined(standing)
    for name, value in after.items():
        assert torch.equal(value, before[name]) == (name.split(".")[0] in names), name


def test_a_client_segment_may_be_frozen_whole(tmp_path: Path) -> None:
    plan = plan_of(defense=plugins.Frozen(names=("rows",)))
    data = federation()
    _, start = started(plan, data.public)
    standing = train(tmp_path, plan, data).standing
    assert_same(standing.client, start.client, 0.0)
    assert not torch.equal(standing.server["logits.weight"], start.server["logits.weight"])


# augment


def one_batch(plan: Plan, own: Any) -> dict[str, Tensor]:
    update = local_round(plan, SplitFedV1(batch_size=EVERYTHING), first_task(plan), own)
    return {**update.closing.state, **update.server_state}


def test_a_row_of_weight_zero_changes_nothing() -> None:
    plan, own = plan_of(precision="float64"), holding(images(9, seed=3))
    stranger = images(4, seed=4)
    assert_same(one_batch(plan, plugins.appended(own, stranger.pixels, stranger.labels, 0.0)), one_batch(plan, own))


def test_a_row_of_weight_two_is_the_row_twice() -> None:
    plan, own = plan_of(precision="float64"), holding(images(9, seed=3))
    stranger = images(4, seed=4)
    once = plugins.appended(own, stranger.pixels, stranger.labels, 2.0)
    twice = plugins.appended(own, stranger.pixels.repeat(2, 1, 1, 1), stranger.labels.repeat(2), 1.0)
    assert_same(one_batch(plan, once), one_batch(plan, twice))


def test_augmented_rows_are_trained_on_but_neither_counted_nor_watched(tmp_path: Path) -> None:
    plan = plan_of(defense=plugins.MadeUp(rows=5, weight=1.0))
    data = federation((14, 9))
    trained = train(tmp_path, plan, data, SplitFedV1(rounds=1, batch_size=EVERYTHING), RECORDING)
    assert trained.standing.bytes[1] == (14 + 5 + 9 + 5) * 40 * 4
    (page,) = trained.ledger.pages
    assert sorted(torch.cat([exchange.rows for exchange in page.exchanges]).tolist()) == [
        0,
        1,
        2,
        3,
        100,
        101,
        102,
        103,
    ]
    # Averaged by true rows, 14 to 9.
    states = dict(page.returned)
    expected = (14 * states[0]["rows.0.weight"].double() + 9 * states[1]["rows.0.weight"].double()) / 23
    torch.testing.assert_close(page.client["rows.0.weight"].double(), expected, rtol=1e-6, atol=1e-7)


def test_what_is_made_up_differs_between_clients_and_is_the_same_in_every_round(tmp_path: Path) -> None:
    made: list[tuple[Tensor, ...]] = []

    class Watching(plugins.MadeUp):
        def after_backward(self, segment, step, rng):
            made.append(tuple(image for image in step.images if image.max() > 0.95))

    plan = plan_of(defense=Watching(rows=3, weight=1.0))
    train(tmp_path, plan, federation((6, 6)), SplitFedV1(rounds=2, batch_size=EVERYTHING))
    first, second, first_again, second_again = ({tuple(image.flatten().tolist()) for image in row} for row in made)
    assert first == first_again
    assert second == second_again
    assert first
    assert not first & second


# release


@pytest.mark.parametrize("active", ["training", "inference", "both"])
def test_release_acts_when_it_is_active(active: Any, tmp_path: Path) -> None:
    plan = plan_of(defense=plugins.Shift(by=100.0, active=active))
    data = federation()
    training, inference, pairs = leaks(train(tmp_path, plan, data, recording=RECORDING), plan, data)
    assert (training.min() >= 100) == (active != "inference")
    assert (inference.min() >= 100) == (pairs.min() >= 100) == (active != "training")


# deploy


def test_deployed_clients_answer_with_their_own_release(tmp_path: Path) -> None:
    plan = plan_of(defense=plugins.Poison())
    data = federation()
    training, inference, pairs = leaks(train(tmp_path, plan, data, recording=RECORDING), plan, data)
    assert training.unique().numel() > 50
    # Four targets at each client, in ascending order of their rows; each client draws its own number.
    by_client = inference.view(3, 4, -1)
    assert all(block.unique().numel() == 1 for block in by_client)
    assert [int(block[0, 0]) for block in by_client] == [13, 108, 211]
    assert len({round(float(block[0, 0]) % 1, 6) for block in by_client}) == 3
    # The first client answers the adversary.
    assert pairs.unique().tolist() == by_client[0].unique().tolist()


def test_a_deployed_client_without_hooks_releases_and_answers_as_before() -> None:
    plan = plan_of(defense=plugins.Shift(by=2.0))
    deployed = plan.defense.deploy(plan.segments(), holding(images(3, seed=0)), Generator())
    values = torch.rand(2, 3)
    assert torch.equal(deployed.release(values, Generator()), values + 2)
    assert torch.equal(deployed.answer(torch.rand(2, 1, 8, 8), values), values)


# the order of hooks


def test_hooks_come_in_the_order_of_a_models_life(tmp_path: Path) -> None:
    plugins.LOG.clear()
    plan = plan_of(defense=plugins.Logged(name="a"))
    train(tmp_path, plan, federation((6,)), SplitFedV1(rounds=2, batch_size=EVERYTHING))
    seen = [line.split()[0] for line in plugins.LOG]
    assert list(OrderedDict.fromkeys(seen)) == ["build", "warm_start", "augment", "after_backward", "after_step"]
    assert seen.count("warm_start") == seen.count("augment") == 1
    assert [name for name in seen if name.startswith("after")] == ["after_backward", "after_step"] * 2


def test_active_is_refused_where_nothing_is_released() -> None:
    assert plugins.Shift(by=1.0, active="training").releasing("inference") == ()
    with pytest.raises(ValidationError, match="no effect"):
        plugins.Sphere(radius=1.0, active="training")


def test_a_defense_without_hooks_changes_nothing(tmp_path: Path) -> None:
    class Nothing(Defense):
        pass

    data = federation()
    found = train(tmp_path / "found", plan_of(defense=Nothing()), data).standing
    expected = train(tmp_path / "expected", plan_of(), data).standing
    assert_same(joined(found), joined(expected), 0.0)
