import math
import pickle
from typing import get_args

import pytest

pytest.importorskip("flwr")

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from fedsplit.federation.cohort import Task, Update
from fedsplit.federation.messages import (
    Closing,
    Crossing,
    CutGradient,
    Failed,
    Hidden,
    HiddenGradient,
    Opening,
    OwnGradient,
    SharedGradient,
)
from fedsplit.flower.grid.array import to_record, to_tensors
from fedsplit.flower.wire import Message, pack, unpack
from fedsplit.records.exchange import Exchange
from tests.federation.builders import bits

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


def test_a_transposed_tensor_that_needs_a_gradient_arrives_by_value() -> None:
    sent = torch.arange(6.0).view(2, 3).t().requires_grad_()
    arrived = to_tensors(to_record({"weight": sent}))["weight"]
    assert arrived.tolist() == sent.tolist()
    assert not arrived.requires_grad


def state(seed: int) -> dict[str, Tensor]:
    rng = Generator().manual_seed(seed)
    return {"0.weight": torch.randn((2, 3), generator=rng), "0.count": torch.tensor(seed), "empty": torch.zeros((0, 4))}


def assert_equal(found: object, sent: object) -> None:
    assert bits(found) == bits(sent)
    assert type(found) is type(sent)


def exchange(step: int, *, stays_home: bool) -> Exchange:
    labels, leaving = (None, torch.full((step, 5), 0.3)) if stays_home else (torch.zeros(step).long(), None)
    return Exchange(7, 3, step, torch.arange(step), torch.full((step, 2), 0.1), torch.ones(step, 2), labels, leaving)


def closing(exchanges: int, *, stays_home: bool = False) -> Closing:
    losses = (0.1, 1 / 3, math.inf)[: 3 if exchanges else 0]
    crossed = tuple(exchange(step, stays_home=stays_home) for step in range(exchanges))
    return Closing(3, True, 17, 9, state(1), state(3), crossed, losses, (2**40, 5))


LABELS = torch.arange(3)
MESSAGES = {
    "task": Task(Opening(7, 3, state(1), {}, 0.1, returns=False), state(2), state(3)),
    "update": Update(closing(11), state(2), {}, (0.5,)),
    "opening": Opening(1, 0, {}, {}),
    "closing without exchanges": closing(0),
    "closing without labels": closing(2, stays_home=True),
    "crossing": Crossing(torch.rand(3, 2), LABELS, torch.ones(3)),
    "crossing without labels": Crossing(torch.rand(3, 2), None, torch.ones(3)),
    "hidden": Hidden(torch.rand(3, 2)),
    "hidden gradient": HiddenGradient(torch.rand(3, 2)),
    "cut gradient": CutGradient(torch.rand(3, 2)),
    "own gradient": OwnGradient(state(1)),
    "shared gradient": SharedGradient({}),
    "failed": Failed("client 1, round 2: fell over"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_arrives_as_it_was_sent(name: str) -> None:
    assert_equal(unpack(pickle.loads(pickle.dumps(pack(MESSAGES[name])))), MESSAGES[name])


def test_every_message_of_a_federation_is_tried() -> None:
    assert {type(message) for message in MESSAGES.values()} == set(get_args(Message))
