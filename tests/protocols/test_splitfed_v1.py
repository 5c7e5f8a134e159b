"""Split training is ordinary training: against joint training and FedAvg written out by hand, in float64."""

import copy
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fedsplit.federation.cohort import Cohort
from fedsplit.federation.optimizer import Adam, StochasticGradientDescent
from fedsplit.federation.plan import Plan
from fedsplit.federation.roles import FederationData
from fedsplit.models.base import Model
from fedsplit.models.lenet import LeNet
from fedsplit.models.linear import Linear
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from tests.federation.builders import (
    assert_same,
    federation,
    images,
    joined,
    plan_of,
    started,
    train,
    train_whole,
    whole_model,
)

LENET = ("conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "dense1", "dense2")
CUTS = [(LeNet(channels=2), cut) for cut in LENET] + [(Linear(width=4), cut) for cut in ("rows", "hidden")]


class WithDropout(Model):
    """Draws from the global stream on both sides of the cut."""

    def blocks(self, shape, classes):
        return OrderedDict(
            flat=nn.Flatten(),
            first=nn.Linear(64, 9),
            mask1=nn.Dropout(0.3),
            mask2=nn.Dropout(0.4),
            last=nn.Linear(9, 3),
        )


def rebuilt(plan: Plan, model: nn.Module) -> torch.optim.Optimizer:
    """The plan's optimiser from torch itself."""
    chosen = plan.optimizer
    if isinstance(chosen, Adam):
        return torch.optim.Adam(model.parameters(), lr=chosen.learning_rate, weight_decay=chosen.weight_decay)
    return torch.optim.SGD(
        model.parameters(), lr=chosen.learning_rate, momentum=chosen.momentum, weight_decay=chosen.weight_decay
    )


def joint(plan: Plan, protocol: SplitFedV1, data: FederationData) -> tuple[dict[str, Tensor], list[float]]:
    model = whole_model(plan)
    optimizer = rebuilt(plan, model)
    losses: list[float] = []
    for number in range(1, protocol.rounds + 1):
        if plan.optimizer.state == "reset":
            optimizer = rebuilt(plan, model)
        steps = train_whole(plan, protocol, model, optimizer, data.holdings[0], number, 0)
        losses.append(sum(steps) / len(steps))
    return model.state_dict(), losses


def federated(plan: Plan, protocol: SplitFedV1, data: FederationData) -> dict[str, Tensor]:
    """FedAvg of the whole model, every client from the same weights in each round, with a fresh optimiser."""
    model = whole_model(plan)
    counts = [len(own) for own in data.holdings]
    for number in range(1, protocol.rounds + 1):
        local = [copy.deepcopy(model) for _ in counts]
        for client, (own, mine) in enumerate(zip(data.holdings, local, strict=True)):
            train_whole(plan, protocol, mine, rebuilt(plan, mine), own, number, client)
        states = [mine.state_dict() for mine in local]
        model.load_state_dict({name: fedavg(states, counts, name, protocol.statistics) for name in states[0]})
    return model.state_dict()


def fedavg(states: list[dict[str, Tensor]], counts: list[int], name: str, statistics: str) -> Tensor:
    def mean(values: list[Tensor]) -> Tensor:
        return torch.stack([count * value for count, value in zip(counts, values, strict=True)]).sum(0) / sum(counts)

    if name.endswith("num_batches_tracked"):
        return torch.stack([state[name] for state in states]).max()
    if statistics == "pooled" and name.endswith("running_var"):
        # Law of total variance through second moments, which is not how the code does it.
        means = [state[name.replace("_var", "_mean")] for state in states]
        moments = [state[name] + mean_.square() for state, mean_ in zip(states, means, strict=True)]
        return mean(moments) - mean(means).square()
    return mean([state[name] for state in states])


@pytest.mark.parametrize("state", ["keep", "reset"])
@pytest.mark.parametrize("kind", ["adam", "sgd"])
@pytest.mark.parametrize(("model", "cut"), CUTS, ids=[f"{model.kind}-{cut}" for model, cut in CUTS])
def test_one_client_equals_joint_training(model: Model, cut: str, kind: str, state: str, tmp_path: Path) -> None:
    optimizer = (
        Adam(learning_rate=0.01, weight_decay=0.01, state=state)
        if kind == "adam"
        else StochasticGradientDescent(learning_rate=0.1, momentum=0.9, weight_decay=0.01, state=state)
    )
    plan = plan_of(model=model, cut=cut, optimizer=optimizer, precision="float64")
    data, protocol = federation((17,)), SplitFedV1(rounds=3, local_epochs=2, batch_size=8)
    trained = train(tmp_path, plan, data, protocol)
    expected, losses = joint(plan, protocol, data)
    assert_same(joined(trained.standing), expected)
    assert trained.standing.losses == pytest.approx(losses, rel=1e-10)


def test_keeping_the_optimiser_is_not_the_same_as_resetting_it(tmp_path: Path) -> None:
    data, protocol = federation((17,)), SplitFedV1(rounds=2, batch_size=8)
    kept, reset = (
        train(tmp_path / state, plan_of(optimizer=Adam(state=state), precision="float64"), data, protocol)
        for state in ("keep", "reset")
    )
    assert not torch.allclose(kept.standing.client["rows.0.weight"], reset.standing.client["rows.0.weight"], atol=1e-6)


@pytest.mark.parametrize("cut", ["flat", "first", "mask1", "mask2"])
def test_dropout_draws_as_in_joint_training_wherever_the_cut_is(cut: str, tmp_path: Path) -> None:
    plan = plan_of(model=WithDropout(), cut=cut, precision="float64")
    data, protocol = federation((13,)), SplitFedV1(rounds=2, batch_size=5)
    expected, _ = joint(plan, protocol, data)
    assert_same(joined(train(tmp_path, plan, data, protocol).standing), expected)


@pytest.mark.parametrize("statistics", ["mean", "pooled"])
@pytest.mark.parametrize(
    ("model", "cut"),
    [
        (Linear(width=4), "rows"),
        (LeNet(channels=2, batch_norm=True), "norm1"),
        (LeNet(channels=2, batch_norm=True), "conv2"),
    ],
    ids=["linear", "normalised at the client", "normalised on both sides"],
)
def test_clients_of_different_sizes_equal_federated_averaging(model, cut, statistics, tmp_path: Path) -> None:
    # Not Adam: it blows the rounding of a gradient that is zero in theory (a bias before a normalisation) up to a step.
    optimizer = StochasticGradientDescent(learning_rate=0.1, momentum=0.9)
    plan = plan_of(model=model, cut=cut, optimizer=optimizer, precision="float64")
    protocol = SplitFedV1(rounds=2, local_epochs=2, batch_size=8, statistics=statistics)
    data = federation((17, 9, 23))
    assert_same(joined(train(tmp_path, plan, data, protocol).standing), federated(plan, protocol, data))


def test_every_step_is_counted_to_the_byte(tmp_path: Path) -> None:
    plan = plan_of(model=Linear(width=5), cut="rows")
    data, protocol = federation((13, 6, 7)), SplitFedV1(rounds=3, local_epochs=2, batch_size=6)
    standing = train(tmp_path, plan, data, protocol).standing
    # 13 = 6 + 7 (the last row joins), 6 = 6, 7 = 7: two, one and one crossings per epoch.
    assert standing.steps == 4 * 2 * 3 == protocol.steps((13, 6, 7))
    smashed, label = 1 * 8 * 5 * 4, 8
    crossings = (13 + 6 + 7) * 2 * 3
    assert standing.bytes == (crossings * (smashed + label), crossings * smashed)


@pytest.mark.parametrize("size", [1, 2, 5, 64])
@pytest.mark.parametrize("rows", [1, 2, 5, 6, 11, 64, 65])
def test_the_number_of_steps_is_known_before(rows: int, size: int, tmp_path: Path) -> None:
    protocol = SplitFedV1(rounds=1, batch_size=size)
    assert train(tmp_path, plan_of(), federation((rows,)), protocol).standing.steps == protocol.steps((rows,))


@pytest.mark.parametrize(("participation", "expected"), [(0.01, 1), (0.34, 1), (0.5, 2), (0.6, 2), (1.0, 3)])
def test_the_number_of_steps_counts_those_who_take_part(participation: float, expected: int, tmp_path: Path) -> None:
    protocol = SplitFedV1(rounds=2, batch_size=6, participation=participation)
    standing = train(tmp_path, plan_of(), federation((12, 12, 12)), protocol).standing
    assert standing.steps == protocol.steps((12, 12, 12)) == expected * 2 * 2


class Roll(Cohort):
    """Runs nothing; notes who was called."""

    def __init__(self, size: int) -> None:
        self.called: list[tuple[int, ...]] = []
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    def local_rounds(self, tasks):
        self.called.append(tuple(task.opening.client for task in tasks))
        raise InterruptedError

    def open(self, openings):
        raise AssertionError

    def post(self, answers):
        raise AssertionError

    def take(self, client):
        raise AssertionError


def called(seed: int, rounds: int, participation: float) -> list[tuple[int, ...]]:
    roll, protocol = Roll(10), SplitFedV1(participation=participation)
    plan, standing = started(plan_of(seed=seed), images(3, seed=0))
    segments = plan.segments()
    for number in range(rounds):
        with pytest.raises(InterruptedError):
            protocol.round(plan, roll, segments, type(standing)(number, standing.client, standing.server))
    return roll.called


def test_who_takes_part_is_drawn_anew_in_each_round_from_the_seed() -> None:
    drawn = called(seed=0, rounds=30, participation=0.3)
    assert drawn == called(seed=0, rounds=30, participation=0.3)
    assert drawn != called(seed=1, rounds=30, participation=0.3)
    assert all(len(clients) == len(set(clients)) == 3 and list(clients) == sorted(clients) for clients in drawn)
    assert len(set(drawn)) > 20
    assert {client for clients in drawn for client in clients} == set(range(10))


def test_everybody_takes_part_unless_told_otherwise_and_somebody_always_does() -> None:
    assert called(seed=0, rounds=1, participation=1.0) == [tuple(range(10))]
    assert [len(clients) for clients in called(seed=0, rounds=5, participation=0.001)] == [1] * 5


def test_who_stays_away_keeps_its_optimiser_for_the_next_time(tmp_path: Path) -> None:
    plan = plan_of(optimizer=Adam(state="keep"))
    protocol = SplitFedV1(rounds=6, batch_size=6, participation=0.4)
    trained = train(tmp_path, plan, federation((12, 12, 12)), protocol)
    steps = {client: int(own["0/step"]) for client, (own, _) in trained.standing.memories.items()}
    assert sum(steps.values()) == trained.standing.steps
    assert trained.standing.steps == 6 * 2
