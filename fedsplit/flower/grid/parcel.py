"""What goes over a line at once: messages, each sealed on its own, with large parts beside them in a segment.

A part is a pickle or one of its buffers. Small ones travel in the parcel itself.
"""

import gc
import pickle
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ctypes import Array, c_ubyte
from typing import NamedTuple, TypeAlias

import numpy as np
from flwr.app import Message
from numpy.typing import NDArray

from fedsplit.flower.grid.letter import Letter, sealed, unsealed
from fedsplit.flower.grid.segment import ALIGNMENT, Outbox, Reading, Segment

Place: TypeAlias = tuple[int, int]
"""Start and length, in a segment or of a buffer in this process."""

Part: TypeAlias = bytes | Place

Memory: TypeAlias = "bytes | NDArray[np.uint8] | Array[c_ubyte]"

_INLINE_BYTES = 1 << 16
"""As much goes into the parcel itself: a socket holds that, and copying it costs less than looking after memory."""

_ENOUGH_BYTES = 1 << 19
"""To copy as much takes longer than a parcel of its own."""

_WASTE = 4
"""What is used in place may keep a segment of so many times its size from being used again."""


class Parcel(NamedTuple):
    """Sealed messages, in order. Each is its pickle, then its buffers."""

    letters: list[list[Part]]
    segment: Segment | None
    """This end's view of it, if any part is in one."""
    end: int
    """How far the segment is filled, in bytes."""

    def opened(self) -> Iterator[Message]:
        """One message after the other, each in memory that is its own, writable where it is large.

        A part that is much of the segment stays where it is, and the segment is given back when nobody needs it any
        more. Smaller ones are copied, and so is what several messages share.
        """
        segment = self.segment
        if segment is None:
            for letter in self.letters:
                yield unsealed(_inline(letter[0]), map(_inline, letter[1:]))
            return
        parts = [part for letter in self.letters for part in letter]
        uses = Counter(parts) if len(set(parts)) < len(parts) else dict.fromkeys(parts, 1)
        reading = Reading(segment)

        def memory(part: Part) -> Memory:
            if isinstance(part, bytes):
                return part
            in_place = uses[part] == 1 and part[1] * _WASTE >= self.end
            return reading.hold(*part) if in_place else _copied(segment.view(*part))

        try:
            for pickled, *buffers in self.letters:
                seen = pickled if isinstance(pickled, bytes) else segment.view(*pickled)
                yield unsealed(seen, map(memory, buffers))
        finally:
            reading.end()


class Sealer:
    """Fills a parcel. What is sealed no longer changes with the tensors it was made of."""

    def __init__(self, outbox: Outbox, *, keeps: bool = False) -> None:
        """`keeps`: nobody changes a tensor until the parcel is full, so one that goes to many nodes is written once."""
        self._outbox = outbox
        self._segment: Segment | None = None
        self._letters: list[list[Part]] = []
        self._inline = 0
        self._end = Segment.FIRST
        self._keeps = keeps
        self._kept: dict[Place, tuple[Part, pickle.PickleBuffer]] = {}

    def add(self, letter: Letter) -> None:
        """Copies one more."""
        self._letters.append([self._put(memoryview(letter.pickled)), *map(self._put_buffer, letter.buffers)])

    def is_full_for(self, letter: Letter) -> bool:
        """Whether this one gains nothing by waiting: there is enough, and nothing of it is among what is kept."""
        return self._end >= _ENOUGH_BYTES and not any(_place(buffer.raw()) in self._kept for buffer in letter.buffers)

    def parcel(self) -> Parcel:
        """All that was added."""
        return Parcel(self._letters, self._segment, self._end)

    def discard(self) -> None:
        """There will be no parcel."""
        if self._segment is not None:
            self._segment.give_back()

    def _put_buffer(self, buffer: pickle.PickleBuffer) -> Part:
        raw = buffer.raw()
        if not self._keeps:
            return self._put(raw)
        key = _place(raw)
        if key not in self._kept:
            # The buffer is kept, too: memory that is freed may come back with other content.
            self._kept[key] = (self._put(raw), buffer)
        return self._kept[key][0]

    def _put(self, raw: memoryview) -> Part:
        if self._inline + len(raw) <= _INLINE_BYTES:
            self._inline += len(raw)
            return bytes(raw)
        if self._segment is None:
            self._segment = self._outbox.segment()
        start = -(-self._end // ALIGNMENT) * ALIGNMENT
        self._end = start + len(raw)
        self._segment.view(start, len(raw))[:] = raw
        return start, len(raw)


def packed(outbox: Outbox, messages: Iterable[Message]) -> Iterator[Parcel]:
    """Parcels that can each leave before the next is filled; what several messages share is written once.

    Nobody changes a tensor meanwhile.
    """
    sealer = Sealer(outbox, keeps=True)
    try:
        for message in messages:
            letter = sealed(message)
            if sealer.is_full_for(letter):
                full, sealer = sealer.parcel(), Sealer(outbox, keeps=True)
                yield full
            sealer.add(letter)
    except BaseException:
        sealer.discard()
        raise
    yield sealer.parcel()


@contextmanager
def uncollected() -> Iterator[None]:
    """Many messages at once look like a reason to search the whole process for garbage; in here nobody does."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _place(raw: memoryview) -> Place:
    return np.frombuffer(raw, np.uint8).ctypes.data, len(raw)


def _inline(part: Part) -> bytes:
    assert isinstance(part, bytes), "a part beside a parcel needs the segment it is in"
    return part


def _copied(seen: memoryview) -> NDArray[np.uint8]:
    # By NumPy, which asks for huge pages: in small ones, the first touch of fresh memory would cost more than copying.
    raw = np.empty(len(seen) + ALIGNMENT, np.uint8)
    memory = raw[-raw.ctypes.data % ALIGNMENT :][: len(seen)]
    np.copyto(memory, np.frombuffer(seen, np.uint8))
    return memory
