from itertools import combinations
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from fedsplit.defenses.low_rank import LowRank
from fedsplit.federation.optimizer import Adam
from fedsplit.federation.plan import Plan, state_of
from fedsplit.models.lenet import LeNet
from tests.federation.builders import assert_same, plan_of, whole_model

NORMALISED: dict[str, Any] = {"model": LeNet(channels=2, batch_norm=True), "cut": "conv2"}


def test_it_travels_as_json() -> None:
    plan = plan_of(optimizer=Adam(state="keep"), defense=LowRank(rank=3), frozen=("rows",), precision="float64")
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_segments_begin_as_the_whole_model_does(precision: Any) -> None:
    plan = plan_of(**NORMALISED, precision=precision)
    segments = plan.segments()
    found = {**state_of(segments.client), **state_of(segments.server)}
    assert_same(found, whole_model(plan).state_dict(), 0.0)
    assert {value.dtype for value in found.values() if value.is_floating_point()} == {plan.dtype}


def test_segments_are_fresh_and_alike_each_time_and_differ_by_seed() -> None:
    plan = plan_of()
    state = torch.random.get_rng_state()
    first, second = plan.segments(), plan.segments()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert_same(state_of(first.client), state_of(second.client), 0.0)
    assert (
        first.client.get_parameter("rows.0.weight").data_ptr()
        != second.client.get_parameter("rows.0.weight").data_ptr()
    )
    other = state_of(plan_of(seed=6).segments().client)
    assert not torch.equal(other["rows.0.weight"], state_of(first.client)["rows.0.weight"])


def test_what_is_done_to_segments_is_done_to_no_others() -> None:
    plan = plan_of(**NORMALISED)
    expected = state_of(plan.segments().whole)
    changed = plan.segments()
    for value in changed.whole.state_dict().values():
        value.zero_()
    plan.prepare(changed.client.eval(), state_of(changed.client), training=False)
    again = plan.segments()
    assert_same(state_of(again.whole), expected, 0.0)
    assert all(module.training for module in again.whole.modules())


def test_plans_that_differ_have_segments_of_their_own_whoever_asked_last() -> None:
    plans = [plan_of(), plan_of(seed=6), plan_of(defense=LowRank(rank=3)), plan_of(precision="float64"), plan_of()]
    states = [state_of(plan.segments().whole) for plan in plans]
    assert_same(states[0], states[-1], 0.0)
    assert not torch.equal(states[1]["rows.0.weight"], states[0]["rows.0.weight"])
    assert set(states[2]) > set(states[0])
    assert states[3]["rows.0.weight"].dtype == torch.float64


def test_segments_can_be_tried_out_without_memory() -> None:
    for device in ("cpu", "cuda"):
        with torch.device("meta"):
            segments = plan_of(**NORMALISED, device=device).segments()
        assert all(parameter.is_meta for parameter in segments.server.parameters())
        assert segments.cut_shape == (5, 4, 4)


def test_a_prepared_segment_has_the_state_and_the_mode() -> None:
    plan = plan_of(**NORMALISED)
    state = {name: value + 1 for name, value in state_of(plan.segments().client).items()}
    for training in (True, False):
        segment = plan.prepare(plan.segments().client, state, training=training)
        assert_same(state_of(segment), state, 0.0)
        assert {module.training for module in segment.modules()} == {training}
        assert all(parameter.requires_grad for parameter in segment.parameters())


def test_frozen_blocks_have_no_gradient_and_stay_in_evaluation_mode() -> None:
    plan = plan_of(**NORMALISED, frozen=("norm1", "dense1"))
    segments = plan.segments()
    for _ in range(2):
        client = plan.prepare(segments.client, state_of(segments.client), training=True)
        assert {name for name, block in client.blocks() if not block.training} == {"norm1"}
        still = {name.split(".")[0] for name, value in client.named_parameters() if not value.requires_grad}
        assert still == {"norm1"}


def test_a_foreign_state_is_refused() -> None:
    plan = plan_of()
    with pytest.raises(RuntimeError, match="Missing key"):
        plan.prepare(plan.segments().client, {}, training=True)


def test_a_state_is_a_copy() -> None:
    segment = plan_of().segments().client
    state = state_of(segment)
    with torch.no_grad():
        for parameter in segment.parameters():
            parameter.add_(1)
    assert not torch.equal(state["rows.0.weight"], segment.get_parameter("rows.0.weight"))
    assert not state["rows.0.weight"].requires_grad


def test_threads_are_set_for_a_while() -> None:
    before = torch.get_num_threads()
    plan = plan_of(threads=before + 1)
    with plan.threaded():
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with pytest.raises(RuntimeError, match="size"), plan.threaded():
        torch.rand(3).view(2)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    "change", [{"classes": 0}, {"seed": -1}, {"precision": "float16"}, {"threads": 0}, {"surprise": 1}]
)
def test_what_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        plan_of(**change)


@pytest.mark.parametrize("head", [None, "logits"])
def test_what_a_client_holds_is_made_without_the_server_and_is_nobody_elses(head: str | None) -> None:
    plan = plan_of(head=head)
    homes, whole = [plan.home() for _ in range(2)], plan.segments()
    for home in homes:
        states = home.whole.state_dict(), whole.home.whole.state_dict()
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(states[0][name], value) for name, value in states[1].items())
    held = [{id(module) for module in home.whole.modules()} for home in homes]
    assert held[0].isdisjoint(held[1])
    pointers = [{value.data_ptr() for value in home.whole.state_dict().values()} for home in (*homes, whole.home)]
    assert all(one.isdisjoint(other) for one, other in combinations(pointers, 2))
