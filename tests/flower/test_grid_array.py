import copy
import math
import pickle

import pytest

pytest.importorskip("flwr")

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedsplit.flower.grid.array import DirectArray, direct_record, to_record, to_tensor, to_tensors

TYPES = (
    torch.bfloat16,
    torch.float64,
    torch.float32,
    torch.float16,
    torch.complex64,
    torch.int64,
    torch.uint16,
    torch.uint8,
    torch.bool,
)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Any bits of any type, with any number of dimensions, often empty, often not contiguous."""
    dtype = draw(st.sampled_from(TYPES))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=4)))
    count = math.prod(shape) * torch.empty((), dtype=dtype).element_size()
    top = 1 if dtype is torch.bool else 255
    data = bytes(draw(st.lists(st.integers(0, top), min_size=count, max_size=count)))
    if not count:
        return torch.empty(shape, dtype=dtype)
    tensor = torch.frombuffer(bytearray(data), dtype=dtype).view(shape)
    return tensor.permute(draw(st.permutations(range(tensor.dim()))))


def identical(left: Tensor, right: Tensor) -> bool:
    def described(tensor: Tensor) -> tuple[object, ...]:
        plain = tensor.detach().clone(memory_format=torch.contiguous_format)
        return tensor.dtype, tensor.shape, plain.flatten().view(torch.uint8).numpy().tobytes()

    return described(left) == described(right)


def travelled(array: DirectArray) -> DirectArray:
    """Pickled with its buffers beside it, as to another process."""
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(array, 5, buffer_callback=buffers.append)
    return pickle.loads(text, buffers=[bytearray(buffer.raw()) for buffer in buffers])


@given(tensors())
def test_a_tensor_comes_back_bit_by_bit(tensor: Tensor) -> None:
    array = DirectArray.from_tensor(tensor)
    ways = (
        array,
        travelled(array),
        pickle.loads(pickle.dumps(array)),
        pickle.loads(pickle.dumps(array, 4)),
        copy.deepcopy(array),
        array.stock(),
        # Flower rebuilds every Array of a record from its fields.
        ArrayRecord({"tensor": array})["tensor"],
    )
    assert all(identical(to_tensor(way), tensor) for way in ways)


@given(tensors())
def test_it_is_to_flower_what_its_own_array_is(tensor: Tensor) -> None:
    array, stock = DirectArray.from_tensor(tensor), DirectArray.from_tensor(tensor).stock()
    assert type(stock) is Array
    assert (array.dtype, array.shape, array.stype, array.data) == (stock.dtype, stock.shape, stock.stype, stock.data)
    assert array.shape == tuple(tensor.shape)
    assert array.object_id == stock.object_id
    assert array.numpy().dtype == stock.numpy().dtype
    assert array.numpy().tobytes() == stock.numpy().tobytes()
    inflated = Array.inflate(array.deflate(), array.children)
    assert identical(to_tensor(inflated), tensor)


@given(tensors().filter(lambda tensor: tensor.dtype != torch.bfloat16))
def test_flowers_own_array_becomes_the_same_tensor(tensor: Tensor) -> None:
    assert identical(to_tensor(Array(tensor.contiguous())), tensor)


def test_on_the_way_nothing_is_copied_but_by_who_moves_the_buffers() -> None:
    tensor = torch.arange(1000.0)
    record = to_record({"tensor": tensor})
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(RecordDict({"arrays": record}), 5, buffer_callback=buffers.append)
    assert len(text) < 1000
    (buffer,) = buffers
    assert np.frombuffer(buffer.raw(), np.uint8).ctypes.data == tensor.data_ptr()
    assert to_tensors(record)["tensor"].data_ptr() == tensor.data_ptr()


@pytest.mark.parametrize("offset", [1, 4, 8])
def test_what_is_not_aligned_is_copied_to_where_it_is(offset: int) -> None:
    memory = np.zeros(4096, np.uint8)
    start = -memory.ctypes.data % 64 + offset
    array = DirectArray(memory[start : start + 400])
    assert to_tensor(array).data_ptr() % 64 == 0


def test_what_is_read_only_is_copied() -> None:
    array = travelled(DirectArray(np.arange(3.0)))
    array.numpy().flags.writeable = False
    tensor = to_tensor(array)
    tensor += 1
    assert array.numpy().tolist() == [0, 1, 2]


def test_a_record_keeps_names_and_order() -> None:
    record = direct_record({"b": DirectArray(np.zeros(2)), "a": Array(np.ones(1))})
    assert list(record) == ["b", "a"]
    assert type(record["b"]) is DirectArray
    assert [found.tolist() for found in to_tensors(record).values()] == [[0, 0], [1]]


def test_python_objects_are_refused() -> None:
    with pytest.raises(TypeError, match="Python objects"):
        DirectArray(np.array([object()]))
