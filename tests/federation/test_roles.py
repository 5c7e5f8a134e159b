from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

from fedsplit.errors import EngineError, ScenarioError
from fedsplit.federation.cohort import blamed
from fedsplit.federation.messages import Crossing, CutGradient
from fedsplit.federation.roles import Client, HonestServer, prepared_holding
from fedsplit.records.images import Holding
from tests.defenses import plugins
from tests.federation.builders import first_task, holding, images, plan_of, started

PLAN = plan_of()


def client_with(rows: int) -> Client:
    return Client(PLAN, PLAN.segments(), holding(images(rows, seed=0)), {}, Generator())


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(1, 45), st.integers(0, 99))
def test_every_row_is_in_one_batch_and_no_batch_of_many_is_left_with_one_row(rows: int, size: int, seed: int) -> None:
    found = list(client_with(rows).batches(size, Generator().manual_seed(seed)))
    seen = torch.cat([batch.rows for batch in found])
    assert seen.sort().values.tolist() == list(range(rows))
    sizes = [len(batch) for batch in found]
    assert sizes[:-1] == [size] * (len(sizes) - 1)
    assert 1 <= sizes[-1] <= size + 1
    if rows > 1 and size > 1:
        assert sizes[-1] > 1


def test_a_last_batch_of_one_row_joins_the_one_before() -> None:
    assert [len(batch) for batch in client_with(9).batches(4, Generator())] == [4, 5]
    assert [len(batch) for batch in client_with(10).batches(4, Generator())] == [4, 4, 2]
    assert [len(batch) for batch in client_with(1).batches(4, Generator())] == [1]


def test_batches_are_in_an_order_of_their_stream() -> None:
    client = client_with(30)
    first, again, other = (
        torch.cat([batch.rows for batch in client.batches(7, Generator().manual_seed(seed))]).tolist()
        for seed in (0, 0, 1)
    )
    assert first == again != other
    assert first != sorted(first)


def test_a_batch_keeps_the_fields_of_a_row_together() -> None:
    own = images(20, seed=3)
    weights = torch.linspace(0, 1, 20)
    watched = torch.arange(20) % 3 == 0
    held = Holding(own.pixels, own.labels, weights, 50 + torch.arange(20), watched)
    client = Client(PLAN, PLAN.segments(), held, {}, Generator())
    for batch in client.batches(6, Generator().manual_seed(1)):
        place = batch.rows - 50
        assert torch.equal(batch.pixels, own.pixels[place])
        assert torch.equal(batch.labels, own.labels[place])
        assert torch.equal(batch.weights, weights[place])
        assert torch.equal(batch.watched, watched[place])


def test_a_crossing_is_as_large_as_what_is_in_it() -> None:
    plan = plan_of(precision="float64")
    client = Client(plan, plan.home(), holding(images(6, seed=0)), {}, Generator())
    crossing = client.send(client.holding)
    assert crossing.bytes == 6 * (1 * 8 * 5) * 8 + 6 * 8
    assert not crossing.smashed.requires_grad


def test_a_gradient_that_nobody_asked_for_is_a_bug() -> None:
    client = client_with(6)
    crossing = client.send(client.holding)
    client.receive(CutGradient(torch.zeros_like(crossing.smashed)))
    with pytest.raises(AssertionError, match="before anything was sent"):
        client.receive(CutGradient(torch.zeros_like(crossing.smashed)))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_is_an_engine_error(value: float) -> None:
    server = HonestServer(PLAN, PLAN.segments().server, {}, Generator())
    with pytest.raises(EngineError, match="no longer finite"):
        server.answer(Crossing(torch.full((4, 1, 8, 5), value), torch.zeros(4, dtype=torch.int64), torch.ones(4)))


def test_an_infinite_loss_is_an_engine_error_though_its_gradient_is_finite() -> None:
    server = HonestServer(PLAN, PLAN.segments().server, {}, Generator())
    with torch.no_grad():
        server.segment.get_parameter("logits.bias")[0] = -3e38
    with pytest.raises(EngineError, match="no longer finite"):
        server.answer(Crossing(torch.rand(4, 1, 8, 5), torch.zeros(4, dtype=torch.int64), torch.ones(4)))


def test_a_failure_is_told_with_client_round_and_cause() -> None:
    task = first_task(PLAN, client=3, number=7)
    with pytest.raises(EngineError) as caught, blamed(task.opening):
        raise ValueError("fell\nover")
    assert str(caught.value).startswith("client 3, round 7: training failed (ValueError: fell over); ")
    with pytest.raises(EngineError) as caught, blamed(task.opening):
        raise EngineError("no longer finite", at="server", remedy="lower it")
    assert str(caught.value) == "client 3, round 7: no longer finite; lower it"
    with pytest.raises(EngineError, match=r"client 3, round 7: .*ScenarioError: a: is odd"), blamed(task.opening):
        raise ScenarioError("is odd", at="a")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_no_failure(error: Any) -> None:
    with pytest.raises(error), blamed(first_task(PLAN).opening):
        raise error


def test_augmentation_draws_from_the_clients_own_streams() -> None:
    class Modelled(plugins.MadeUp):
        def augment(self, data, public, model, rng):
            noise = torch.nn.Linear(64, 64)(torch.rand(2, 64, generator=rng)).detach().view(2, 1, 8, 8)
            return plugins.appended(data, noise, torch.zeros(2, dtype=torch.int64), 1.0)

    plan, start = started(plan_of(defense=Modelled(rows=2, weight=1.0)), images(3, seed=0))
    own = holding(images(4, seed=1))
    state = torch.random.get_rng_state()
    first = prepared_holding(plan, 0, own, images(3, seed=0), start.client)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(3)
    again, other = (prepared_holding(plan, client, own, images(3, seed=0), start.client) for client in (0, 1))
    assert torch.equal(first.pixels, again.pixels)
    assert not torch.equal(first.pixels, other.pixels)
    assert len(own) == 4


def test_augmentation_sees_the_broadcast_model() -> None:
    class Echo(plugins.MadeUp):
        def augment(self, data, public, model, rng):
            smashed = model(public.pixels[:1]).detach().flatten()[: 8 * 8]
            made = torch.zeros(1, 1, 8, 8)
            made.view(-1)[: len(smashed)] = smashed
            return plugins.appended(data, made, torch.zeros(1, dtype=torch.int64), 1.0)

    plan, start = started(plan_of(defense=Echo(rows=1, weight=1.0)), images(3, seed=0))
    public = images(3, seed=0)
    state = {name: value + 1 for name, value in start.client.items()}
    segment = plan.segments().client
    segment.load_state_dict(state)
    found = prepared_holding(plan, 0, holding(images(4, seed=1)), public, state)
    assert torch.equal(found.pixels[-1].flatten()[:40], segment(public.pixels[:1]).flatten())
    assert found.rows.tolist() == [0, 1, 2, 3, -1]
