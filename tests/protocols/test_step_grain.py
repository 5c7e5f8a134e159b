"""Protocols that cross the cut at every step equal ordinary training, in float64, to ten digits."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fedsplit.federation.ledger import Recording
from fedsplit.federation.optimizer import Adam, Optimizer, StochasticGradientDescent
from fedsplit.federation.plan import Plan
from fedsplit.federation.roles import FederationData
from fedsplit.models.lenet import LeNet
from fedsplit.models.linear import Linear
from fedsplit.protocols.base import Protocol
from fedsplit.protocols.parallel import Parallel
from fedsplit.protocols.sequential import Sequential
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.protocols.splitfed_v2 import SplitFedV2
from fedsplit.records.leak import Asset
from tests.federation.builders import assert_same, bits, federation, joined, plan_of, train, whole_model
from tests.protocols.laws import epochs, mean, optimizer_of, permutations, step

OPTIMIZERS: dict[str, Optimizer] = {
    "adam": Adam(learning_rate=0.01, weight_decay=0.01, state="keep"),
    "momentum": StochasticGradientDescent(learning_rate=0.1, momentum=0.9, state="keep"),
    "forgetful": StochasticGradientDescent(learning_rate=0.1, momentum=0.9, state="reset"),
}
MODELS: dict[str, dict[str, Any]] = {
    "linear": {"model": Linear(width=4), "cut": "rows"},
    "normalised": {"model": LeNet(channels=2, batch_norm=True), "cut": "norm1"},
}
ROUNDS: dict[str, int] = {"rounds": 2, "local_epochs": 2, "batch_size": 6}
STEP_GRAIN = [
    Sequential(**ROUNDS),
    SplitFedV2(**ROUNDS),
    *(Parallel(**ROUNDS, sync=sync) for sync in ("step", "round", "never")),
]
ALL = [SplitFedV1(**ROUNDS), *STEP_GRAIN]


def told(protocol: Protocol) -> str:
    return f"{protocol.kind}-{protocol.sync}" if isinstance(protocol, Parallel) else protocol.kind


def centralised(plan: Plan, protocol: Protocol, data: FederationData) -> tuple[nn.Module, list[float]]:
    """One model that meets the clients' batches one client after the other."""
    model, losses = whole_model(plan), list[float]()
    optimizer = optimizer_of(plan, model)
    for number in range(1, protocol.rounds + 1):
        if plan.optimizer.state == "reset":
            optimizer = optimizer_of(plan, model)
        steps = [
            step(model, [optimizer], pixels, labels)
            for client, own in enumerate(data.holdings)
            for pixels, labels in epochs(plan, protocol, own, number, client)
        ]
        losses.append(sum(steps) / len(steps))
    return model, losses


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("protocol", ALL, ids=told)
def test_one_client_equals_joint_training(protocol: Protocol, optimizer: str, model: str, tmp_path: Path) -> None:
    plan = plan_of(**MODELS[model], optimizer=OPTIMIZERS[optimizer], precision="float64")
    data = federation((17,))
    trained = train(tmp_path, plan, data, protocol)
    expected, losses = centralised(plan, protocol, data)
    assert_same(joined(trained.standing), expected.state_dict())
    assert trained.standing.losses == pytest.approx(losses, rel=1e-10)


@pytest.mark.parametrize("head", ["hidden", "logits"])
@pytest.mark.parametrize("protocol", ALL, ids=told)
def test_a_head_at_the_client_changes_no_gradient(protocol: Protocol, head: str, tmp_path: Path) -> None:
    plan = plan_of(optimizer=OPTIMIZERS["adam"], precision="float64")
    if head == "hidden":
        plan = plan.model_copy(update={"model": LeNet(channels=2), "cut": "conv1"})
        head = "dense2"
    plain = train(tmp_path / "plain", plan, federation((17,)), protocol).standing
    shaped = train(tmp_path / "shaped", plan.model_copy(update={"head": head}), federation((17,)), protocol).standing
    stays_home = [name for name in shaped.deployed[0] if name.startswith(head)]
    assert stays_home
    assert set(stays_home).isdisjoint(shaped.server)
    assert_same(dict(sorted(joined(shaped).items())), dict(sorted(joined(plain).items())))
    assert shaped.losses == pytest.approx(plain.losses, rel=1e-10)


@pytest.mark.parametrize("protocol", ALL, ids=told)
def test_several_clients_with_heads_learn_what_they_learn_without(protocol: Protocol, tmp_path: Path) -> None:
    # Where one server segment serves heads that move apart, U-shaped is another algorithm; stepping together it is not.
    plan = plan_of(optimizer=OPTIMIZERS["momentum"], precision="float64")
    shaped = train(tmp_path / "shaped", plan.model_copy(update={"head": "logits"}), federation((12, 12)), protocol)
    plain = train(tmp_path / "plain", plan, federation((12, 12)), protocol)
    same = isinstance(protocol, SplitFedV1 | Sequential) or protocol.together
    if same:
        assert_same(dict(sorted(joined(shaped.standing).items())), dict(sorted(joined(plain.standing).items())))
    else:
        assert shaped.standing.losses[0] != plain.standing.losses[0]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_sequential_equals_centralised_training_on_the_clients_in_a_row(optimizer, model, tmp_path: Path) -> None:
    plan = plan_of(**MODELS[model], optimizer=OPTIMIZERS[optimizer], precision="float64")
    protocol, data = Sequential(**ROUNDS), federation((14, 9, 12))
    trained = train(tmp_path, plan, data, protocol)
    expected, losses = centralised(plan, protocol, data)
    assert_same(joined(trained.standing), expected.state_dict())
    assert trained.standing.losses == pytest.approx(losses, rel=1e-10)


def test_only_a_server_that_relays_holds_the_client_segment() -> None:
    assert Sequential(relay="clients").withheld == {Asset.CLIENT_WEIGHTS}
    assert Sequential(relay="server").withheld == SplitFedV2().withheld == frozenset()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_parallel_steps_equal_one_client_with_the_joined_batches(optimizer: str, tmp_path: Path) -> None:
    plan = plan_of(
        model=LeNet(channels=2, batch_norm=True), cut="conv1", optimizer=OPTIMIZERS[optimizer], precision="float64"
    )
    # The server normalises over the joined batch; the client segment has no normalisation. Sizes differ on purpose.
    protocol, data = Parallel(**ROUNDS), federation((14, 9, 12))
    model = whole_model(plan)
    tail = optimizer_of(plan, model)
    for number in range(1, protocol.rounds + 1):
        if plan.optimizer.state == "reset":
            tail = optimizer_of(plan, model)
        waiting = [epochs(plan, protocol, own, number, client) for client, own in enumerate(data.holdings)]
        while turns := [batch for batch in (next(source, None) for source in waiting) if batch is not None]:
            step(model, [tail], torch.cat([pixels for pixels, _ in turns]), torch.cat([labels for _, labels in turns]))
    assert_same(joined(train(tmp_path, plan, data, protocol).standing), model.state_dict())


def test_the_second_splitfed_equals_its_loop_written_out(tmp_path: Path) -> None:
    plan = plan_of(optimizer=OPTIMIZERS["momentum"], precision="float64")
    protocol, data = SplitFedV2(**ROUNDS), federation((14, 9, 12))
    whole = whole_model(plan)
    front, back = nn.Sequential(whole.get_submodule("rows")), nn.Sequential(*list(whole.children())[1:])
    own = {client: optimizer_of(plan, front) for client in range(3)}
    memory = {client: own[client].state_dict() for client in own}
    server = optimizer_of(plan, back)
    for number in (1, 2):
        fronts = {client: copy.deepcopy(front) for client in range(3)}
        own = {client: optimizer_of(plan, fronts[client]) for client in range(3)}
        for client in own:
            own[client].load_state_dict(memory[client])
        waiting = {client: epochs(plan, protocol, rows, number, client) for client, rows in enumerate(data.holdings)}
        order = plan.seeds("turns", number)
        clients = [0, 1, 2]
        while clients:
            over: list[int] = []
            for client in permutations(order, clients):
                batch = next(waiting[client], None)
                if batch is None:
                    over.append(client)
                else:
                    step(nn.Sequential(fronts[client], back), [own[client], server], *batch)
            clients = [client for client in clients if client not in over]
        memory = {client: own[client].state_dict() for client in own}
        front.load_state_dict(mean([fronts[client].state_dict() for client in range(3)], [14, 9, 12]))
    assert_same(joined(train(tmp_path, plan, data, protocol).standing), whole.state_dict())


@pytest.mark.parametrize("sync", ["round", "never"])
def test_parallel_rounds_equal_their_loop_written_out(sync: str, tmp_path: Path) -> None:
    plan = plan_of(optimizer=OPTIMIZERS["forgetful"], precision="float64")
    protocol, data = Parallel(**ROUNDS, sync=sync), federation((12, 6))
    whole = whole_model(plan)
    front, back = nn.Sequential(whole.get_submodule("rows")), nn.Sequential(*list(whole.children())[1:])
    fronts = [copy.deepcopy(front) for _ in range(2)]
    for number in (1, 2):
        own = [optimizer_of(plan, mine) for mine in fronts]
        server = optimizer_of(plan, back)
        waiting = [epochs(plan, protocol, rows, number, client) for client, rows in enumerate(data.holdings)]
        while turns := {c: batch for c, source in enumerate(waiting) if (batch := next(source, None)) is not None}:
            smashed = {client: fronts[client](pixels) for client, (pixels, _) in turns.items()}
            logits = back(torch.cat(list(smashed.values())))
            loss = nn.functional.cross_entropy(logits, torch.cat([labels for _, labels in turns.values()]))
            for optimizer in (server, *own):
                optimizer.zero_grad()
            loss.backward()
            server.step()
            total = sum(len(values) for values in smashed.values())
            for client, values in smashed.items():
                # Each client moves along the gradient of the mean loss over its own rows.
                for parameter in fronts[client].parameters():
                    assert parameter.grad is not None
                    parameter.grad *= total / len(values)
                own[client].step()
        if sync == "round":
            average = mean([mine.state_dict() for mine in fronts], [12, 6])
            for mine in fronts:
                mine.load_state_dict(average)
    standing = train(tmp_path, plan, data, protocol).standing
    kept = fronts if sync == "never" else fronts[:1]
    for found, mine in zip(standing.deployed, kept, strict=True):
        assert_same({f"rows.{name.partition('.')[2]}": v for name, v in mine.state_dict().items()}, dict(found))
    assert_same(dict(standing.server), {n: v for n, v in whole.state_dict().items() if n in standing.server})


def test_segments_that_are_never_shared_are_withheld_and_outlive_a_round_without_their_client(tmp_path: Path) -> None:
    assert Parallel(sync="never").withheld == {Asset.CLIENT_WEIGHTS}
    protocol = Parallel(rounds=3, batch_size=6, sync="never", participation=0.3)
    recording = Recording(training=(1, 2, 3))
    trained = train(tmp_path, plan_of(), federation((12, 6, 9)), protocol, recording)
    for page in trained.ledger.pages:
        (taking_part,) = (client for client, _ in page.returned)
        for client, (before, after) in page.apart.items():
            assert (bits(dict(before)) == bits(dict(after))) == (client != taking_part)
    first, second, third = (page.apart for page in trained.ledger.pages)
    for earlier, later in ((first, second), (second, third)):
        assert all(bits(dict(earlier[client][1])) == bits(dict(later[client][0])) for client in range(3))
    assert [bits(dict(state)) for state in trained.standing.deployed] == [bits(dict(third[c][1])) for c in range(3)]


@pytest.mark.parametrize("protocol", ALL, ids=told)
def test_with_a_head_at_home_no_label_leaves_and_the_gradient_that_does_is_kept(protocol, tmp_path: Path) -> None:
    plan = plan_of(head="logits")
    (page,) = train(tmp_path, plan, federation(), protocol, Recording(training=(1,))).ledger.pages
    assert page.exchanges
    for exchange in page.exchanges:
        assert exchange.labels is None
        assert exchange.head_gradient is not None
        assert exchange.head_gradient.shape == (len(exchange.rows), 5)
        assert exchange.head_gradient.abs().sum() > 0


@pytest.mark.parametrize("protocol", ALL, ids=told)
def test_who_drops_out_leaves_what_it_sent_and_takes_the_rest_along(protocol: Protocol, tmp_path: Path) -> None:
    unlucky = protocol.model_copy(update={"drop_out": 0.999999, "rounds": 1})
    data = federation((14, 9))
    trained = train(tmp_path, plan_of(), data, unlucky, Recording(training=(1,)))
    start = plan_of().segments()
    for client in trained.standing.deployed:
        assert bits(dict(client)) == bits(dict(start.client.state_dict()))
    assert trained.ledger.pages[0].returned == ()
    assert trained.standing.bytes[0] > 0
    moved = bits(dict(trained.standing.server)) != bits(dict(start.server.state_dict()))
    # A server copy that a client kept is lost with it; a server that serves all has learned.
    assert moved == (protocol.grain == "step")


@pytest.mark.parametrize("protocol", ALL, ids=told)
def test_stragglers_do_a_part_of_their_steps_and_it_counts(protocol: Protocol, tmp_path: Path) -> None:
    slow = protocol.model_copy(update={"stragglers": 1.0, "pace": 0.5, "local_epochs": 1})
    trained = train(tmp_path, plan_of(), federation((24, 12)), slow, Recording(training=(1,)))
    # 4 and 2 batches of 6 make 2 and 1.
    assert trained.standing.steps == 2 * (2 + 1)
    assert [client for client, _ in trained.ledger.pages[0].returned] == [0, 1]


@pytest.mark.parametrize("protocol", STEP_GRAIN, ids=told)
def test_optimisers_go_on_where_they_are_kept(protocol: Protocol, tmp_path: Path) -> None:
    plan = plan_of(optimizer=Adam(state="keep"))
    standing = train(tmp_path, plan, federation((12, 12)), protocol).standing
    assert int(standing.server_memory["0/step"]) > 0
    own = standing.common_memory or standing.memories[0][0]
    assert int(own["0/step"]) > 0
    forgotten = train(tmp_path / "reset", plan_of(optimizer=Adam(state="reset")), federation((12, 12)), protocol)
    assert (forgotten.standing.server_memory, forgotten.standing.common_memory, forgotten.standing.memories) == (
        {},
        {},
        {},
    )
