"""A Flower Array that keeps its ndarray, so that nothing is written in NumPy's file format only to be read back.

Anywhere else it is an ordinary Array: the bytes of `np.save` are made when somebody asks for them.
"""

import pickle
from collections.abc import Mapping
from functools import cache
from typing import TypeAlias, cast

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray
from torch import Tensor

from fedsplit.flower.grid.release import NUMPY_FORMAT, record_of
from fedsplit.flower.grid.segment import ALIGNMENT

Shape: TypeAlias = tuple[int, ...]
Apart: TypeAlias = tuple[pickle.PickleBuffer, str, Shape, str]
"""An array's memory, NumPy's short name of its type, its shape, and the name to go by."""

_BFLOAT16 = "bfloat16"
_NATIVE = 1
"""How NumPy marks types that need no more than a name."""


class DirectArray(Array):
    """An Array that holds the numbers themselves and pickles them out of band.

    bfloat16, which NumPy lacks, travels as the uint16 of the same bits under its own name.
    """

    _ndarray: NDArray[np.generic]

    def __init__(self, ndarray: NDArray[np.generic], dtype: str = "") -> None:
        """Shares memory with `ndarray` where that is contiguous; `dtype`: the name to go by, if not its own.

        Raises TypeError for an array of Python objects.
        """
        if ndarray.dtype.hasobject:
            raise TypeError("an array of Python objects has no memory of its own that could travel")
        # At once, since Flower's arrays look at each attribute that is set.
        self.__dict__.update(
            # NumPy's own ascontiguousarray would give an array without dimensions one.
            _ndarray=ndarray if ndarray.flags.c_contiguous else ndarray.copy(order="C"),
            dtype=dtype or _name(ndarray.dtype),
            shape=ndarray.shape,
            stype=NUMPY_FORMAT,
        )

    @classmethod
    def from_tensor(cls, tensor: Tensor) -> "DirectArray":
        """Shares memory with a contiguous tensor on the CPU; any other is copied there."""
        if tensor.dtype == torch.bfloat16:
            return cls(tensor.detach().view(torch.uint16).numpy(force=True), _BFLOAT16)
        return cls(tensor.numpy(force=True))

    @property
    def data(self) -> bytes:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The bytes of `np.save`, made anew at each call."""
        return self.stock().data

    def numpy(self) -> NDArray[np.generic]:
        """The array itself, not a copy; read-only where it came in a small message."""
        return self._ndarray

    def stock(self) -> Array:
        """The same as Flower's own Array."""
        serialised = Array(self._ndarray)
        return Array(self.dtype, serialised.shape, serialised.stype, serialised.data)

    def deflate(self) -> bytes:
        """As Flower's own Array: whoever inflates it knows no other."""
        return self.stock().deflate()

    def apart(self) -> "Apart | None":
        """What `together` makes it of again, quickly; None for types that have no short name."""
        kind = self._ndarray.dtype
        if kind.isbuiltin != _NATIVE:
            return None
        return pickle.PickleBuffer(cast(bytes, self._ndarray)), kind.str, self.shape, self.dtype

    @classmethod
    def together(cls, numbers: object, kind: "str | np.dtype[np.generic]", shape: Shape, dtype: str) -> "DirectArray":
        """The array of these bytes, where they are. dtype: the name to go by."""
        return cls(np.frombuffer(cast(bytes, numbers), dtype=kind).reshape(shape), dtype)

    def __reduce_ex__(self, protocol: object) -> tuple[object, ...]:
        # Copies of an object ask for protocol 4, and a buffer cannot be copied.
        outside = isinstance(protocol, int) and protocol >= pickle.HIGHEST_PROTOCOL
        numbers = pickle.PickleBuffer(cast(bytes, self._ndarray)) if outside else self._ndarray.copy()
        return DirectArray.together, (numbers, self._ndarray.dtype, self.shape, self.dtype)


def to_tensor(array: Array) -> Tensor:
    """Any Array -> the tensor it was made from. Shares memory with a DirectArray where that is aligned and writable."""
    numbers = array.numpy()
    # Copied by torch, since NumPy aligns less strictly.
    shares = numbers.flags.writeable and numbers.__array_interface__["data"][0] % ALIGNMENT == 0
    tensor = torch.from_numpy(numbers) if shares else torch.tensor(numbers)
    return tensor.view(torch.bfloat16) if array.dtype == _BFLOAT16 else tensor


def direct_record(arrays: Mapping[str, Array]) -> ArrayRecord:
    """A record of these very arrays; `ArrayRecord(arrays)` would turn each into the bytes of `np.save`."""
    return record_of(ArrayRecord, arrays)


def to_record(tensors: Mapping[str, Tensor]) -> ArrayRecord:
    """Named tensors -> a record that shares their memory where it can, until it is pushed or replied."""
    return direct_record({name: DirectArray.from_tensor(tensor) for name, tensor in tensors.items()})


def to_tensors(record: ArrayRecord) -> dict[str, Tensor]:
    """What `to_record` was given."""
    return {name: to_tensor(array) for name, array in record.items()}


@cache
def _name(kind: "np.dtype[np.generic]") -> str:
    """NumPy composes it anew each time."""
    return str(kind)
