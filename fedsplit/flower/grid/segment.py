"""Memory that the processes of one machine share, without a name that could outlive them."""

import ctypes
import mmap
import os
import sys
import tempfile
from typing import NamedTuple

ALIGNMENT = 64
"""In bytes. Torch aligns its own memory so, and the order of vectorised sums may depend on it."""

_SMALLEST = 1 << 20
_FREE, _TAKEN = 0, 1


class Address(NamedTuple):
    """Where another process finds a segment: a file that only its creator has open."""

    process: int
    descriptor: int


class Segment:
    """A piece of anonymous memory that one process writes and another one reads, by turns; it grows as needed.

    The kernel frees it when the last process that has it open or mapped ends, by whatever signal. Its first byte says
    whose turn it is, so a reader gives it back without a message. Contents begin at `FIRST`.
    """

    FIRST = ALIGNMENT

    def __init__(self, descriptor: int) -> None:
        """Takes over the open file."""
        self._descriptor = descriptor
        self._map = mmap.mmap(descriptor, self._grown(_SMALLEST))

    @classmethod
    def create(cls) -> "Segment":
        """A new one, which is free."""
        if sys.platform == "linux":
            return cls(os.memfd_create("fedsplit"))
        with tempfile.TemporaryFile() as file:
            return cls(os.dup(file.fileno()))

    @classmethod
    def open(cls, address: Address) -> "Segment":
        """Another process's. Raises OSError where that is over or belongs to somebody else."""
        return cls(os.open(f"/proc/{address.process}/fd/{address.descriptor}", os.O_RDWR | os.O_CLOEXEC))

    @property
    def address(self) -> Address:
        """For the other processes, as long as this one keeps it open."""
        return Address(os.getpid(), self._descriptor)

    @property
    def free(self) -> bool:
        """Whether its writer may write."""
        return self._map[0] == _FREE

    def take(self) -> None:
        """By the writer: now until the reader is done."""
        self._map[0] = _TAKEN

    def give_back(self) -> None:
        """By the reader, who no longer looks at it."""
        self._map[0] = _FREE

    def view(self, start: int, length: int) -> memoryview:
        """These bytes, to be read and written at once."""
        self._reach(start + length)
        return memoryview(self._map)[start : start + length]

    def held(self, start: int, length: int) -> "ctypes.Array[ctypes.c_ubyte]":
        """These bytes, as an object that lives until nobody looks at them any more and can be asked to tell."""
        self._reach(start + length)
        return (ctypes.c_ubyte * length).from_buffer(self._map, start)

    def close(self) -> None:
        """Lets go of it; what is still looked at stays valid."""
        os.close(self._descriptor)

    def _reach(self, stop: int) -> None:
        if stop > len(self._map):
            self._map = mmap.mmap(self._descriptor, self._grown(stop))

    def _grown(self, least: int) -> int:
        size = os.fstat(self._descriptor).st_size
        if size < least:
            # Only what is written takes memory, so room to spare is free and makes growing rare.
            size = 1 << (least - 1).bit_length()
            os.ftruncate(self._descriptor, size)
        return size


class Outbox:
    """The segments that a process writes in for a reader: as many as that looks at at once."""

    def __init__(self) -> None:
        self._segments: list[Segment] = []

    def segment(self) -> Segment:
        """A free one, taken from now on."""
        for segment in self._segments:
            if segment.free:
                break
        else:
            segment = Segment.create()
            self._segments.append(segment)
        segment.take()
        return segment

    def close(self) -> None:
        """Lets go of all."""
        while self._segments:
            self._segments.pop().close()


class Inbox:
    """The same segments where another process reads them."""

    def __init__(self) -> None:
        self._segments: dict[Address, Segment] = {}

    def segment(self, address: Address) -> Segment:
        """The one at this address, mapped once."""
        if address not in self._segments:
            self._segments[address] = Segment.open(address)
        return self._segments[address]

    def close(self) -> None:
        """Lets go of all."""
        while self._segments:
            self._segments.popitem()[1].close()


class Reading:
    """From the arrival of a parcel until nobody looks at its segment any more, which is then given back."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._readers = [0]

    def hold(self, start: int, length: int) -> "ctypes.Array[ctypes.c_ubyte]":
        """These bytes in place, for as long as the result or any array on it lives."""
        held = self._segment.held(start, length)
        self._readers.append(len(self._readers))
        held.reader = _Reader(self)  # pyright: ignore[reportAttributeAccessIssue]
        return held

    def end(self) -> None:
        """One reader less: a held piece, or the one who opened the parcel."""
        # Taking the last of a list is atomic, so of readers that end in several threads just one finds the first.
        if self._readers.pop() == 0:
            self._segment.give_back()


class _Reader:
    """Goes with the piece it hangs on. A weak reference that calls back would do the same at ten times the price."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def __del__(self) -> None:
        self._reading.end()
