import math
import pickle

import pytest

pytest.importorskip("flwr")

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from fedsplit.federation.roles import Task, Update
from fedsplit.flower.wire import pack_task, pack_update, to_record, to_tensors, unpack_task, unpack_update
from fedsplit.records.exchange import Exchange

TYPES = (torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool)
SHAPES = st.lists(st.integers(0, 3), max_size=4).map(tuple)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Any bits at all: negative zeros, infinities and the payloads of NaN included."""
    dtype, shape = draw(st.sampled_from(TYPES)), draw(SHAPES)
    count = math.prod(shape)
    size = torch.empty((), dtype=dtype).element_size()
    top = 1 if dtype is torch.bool else 255
    data = bytes(draw(st.lists(st.integers(0, top), min_size=count * size, max_size=count * size)))
    return torch.frombuffer(bytearray(data), dtype=dtype).view(shape) if count else torch.empty(shape, dtype=dtype)


def identical(left: Tensor, right: Tensor) -> bool:
    return (
        left.dtype == right.dtype
        and left.shape == right.shape
        and left.contiguous().numpy().tobytes() == right.contiguous().numpy().tobytes()
    )


@given(st.dictionaries(st.text("abc./_0", min_size=1), tensors(), max_size=4))
def test_tensors_cross_bit_by_bit_with_name_order_type_and_shape(given_tensors: dict[str, Tensor]) -> None:
    # Pickled on the way, as between Flower and its workers.
    found = to_tensors(pickle.loads(pickle.dumps(to_record(given_tensors))))
    assert list(found) == list(given_tensors)
    assert all(identical(found[name], value) for name, value in given_tensors.items())


def test_what_arrives_shares_no_memory_with_what_was_sent_and_may_be_written() -> None:
    sent = torch.zeros(3)
    arrived = to_tensors(to_record({"weight": sent}))["weight"]
    arrived += 1
    assert sent.tolist() == [0, 0, 0]


def test_a_transposed_tensor_that_needs_a_gradient_arrives_by_value() -> None:
    sent = torch.arange(6.0).view(2, 3).t().requires_grad_()
    arrived = to_tensors(to_record({"weight": sent}))["weight"]
    assert arrived.tolist() == sent.tolist()
    assert not arrived.requires_grad


def state(seed: int) -> dict[str, Tensor]:
    rng = Generator().manual_seed(seed)
    return {"0.weight": torch.randn((2, 3), generator=rng), "0.count": torch.tensor(seed), "empty": torch.zeros((0, 4))}


def assert_alike(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert list(left) == list(right)
    assert all(identical(left[name], right[name]) for name in left)


def test_a_task_arrives_with_its_job() -> None:
    task = Task(7, 3, state(1), state(2), {}, state(3))
    job, found = unpack_task(pack_task('{"job": 1}', task))
    assert (job, found.round, found.client, found.client_memory) == ('{"job": 1}', 7, 3, {})
    assert_alike(found.client_state, task.client_state)
    assert_alike(found.server_state, task.server_state)
    assert_alike(found.server_memory, task.server_memory)


@pytest.mark.parametrize("exchanges", [0, 11])
def test_an_update_arrives_with_its_exchanges_in_order(exchanges: int) -> None:
    crossed = tuple(
        Exchange(
            7, 3, step, torch.arange(step), torch.full((step, 2), 0.1), torch.ones(step, 2), torch.zeros(step).long()
        )
        for step in range(exchanges)
    )
    losses = (0.1, 1 / 3, math.inf)[: 3 if exchanges else 0]
    update = Update(3, 17, state(1), state(2), state(3), {}, crossed, losses, (2**40, 5))
    found = unpack_update(pack_update(update))
    assert (found.client, found.examples, found.losses, found.bytes) == (3, 17, losses, (2**40, 5))
    assert [(exchange.round, exchange.client, exchange.step) for exchange in found.exchanges] == [
        (7, 3, step) for step in range(exchanges)
    ]
    for one, other in zip(found.exchanges, crossed, strict=True):
        assert all(
            identical(getattr(one, name), getattr(other, name)) for name in ("rows", "smashed", "gradient", "labels")
        )
