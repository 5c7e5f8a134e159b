"""What joins two processes: a socket over which parcels go, whole and in order.

On one machine it carries no more than where large parts lie; between machines these follow each parcel, from a segment
at one end into a segment at the other.
"""

import pickle
import select
import struct
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from math import inf
from socket import socket

from flwr.app import Message

from fedsplit.flower.grid.parcel import Parcel, Sealer, packed
from fedsplit.flower.grid.segment import Inbox, Outbox, Segment
from fedsplit.flower.grid.watch import woken

_HEADER = struct.Struct("<QQ")
"""In bytes: how long a parcel's letters are, and how much of a segment follows them."""


class Line:
    """One end. Calls do what can be done at once; only `wait` waits."""

    def __init__(self, connection: socket, *, shares_memory: bool) -> None:
        """Takes over the connected socket."""
        connection.setblocking(False)
        self._connection = connection
        self._shares_memory = shares_memory
        self._outbox = Outbox()
        self._inbox = Inbox()
        self._landing = Outbox()
        self._leaving: deque[tuple[memoryview, Segment | None]] = deque()
        self._arriving = self._arrivals()

    @property
    def behind(self) -> bool:
        """Whether the other end has not taken all that was sent."""
        return bool(self._leaving)

    def watched(self, poll: select.poll) -> int:
        """Has `poll` tell, by this number, when something came or there is room for what is still to be sent."""
        poll.register(self._connection, select.POLLIN | select.POLLOUT if self.behind else select.POLLIN)
        return self._connection.fileno()

    def wait(self) -> None:
        """Until something came, or more can be sent."""
        poll = select.poll()
        self.watched(poll)
        woken(poll, inf)

    def sealer(self) -> Sealer:
        """Fills a parcel that this line can send."""
        return Sealer(self._outbox)

    def packed(self, messages: Iterable[Message]) -> Iterator[Parcel]:
        """Parcels that this line can send, each before the next is filled; no tensor may change until the last one."""
        return packed(self._outbox, messages)

    def send(self, parcel: Parcel) -> None:
        """After all that was sent before."""
        segment, carried = parcel.segment, 0
        if segment is not None and not self._shares_memory:
            carried = parcel.end - Segment.FIRST
        address = segment.address if segment is not None and not carried else None
        letters = pickle.dumps((parcel.letters, address, parcel.end), pickle.HIGHEST_PROTOCOL)
        self._leaving.append((memoryview(_HEADER.pack(len(letters), carried) + letters), None))
        if segment is not None and carried:
            self._leaving.append((segment.view(Segment.FIRST, carried), segment))
        self.flush()

    def flush(self) -> None:
        """Hands over what was sent. Where the other end has hung up, receiving will tell, after what that had sent."""
        while self._leaving:
            rest, segment = self._leaving[0]
            try:
                taken = self._connection.send(rest)
            except BlockingIOError:
                return
            except OSError:
                self._leaving.clear()
                return
            if taken < len(rest):
                self._leaving[0] = rest[taken:], segment
                continue
            self._leaving.popleft()
            if segment is not None:
                segment.give_back()

    def receive(self) -> Parcel | None:
        """The next one; None while it is not here as a whole. Raises OSError once the other end has hung up."""
        return next(self._arriving)

    def close(self) -> None:
        """Hangs up; what came stays valid."""
        self._connection.close()
        self._leaving.clear()
        self._arriving.close()
        for memory in (self._outbox, self._inbox, self._landing):
            memory.close()

    def _arrivals(self) -> Generator[Parcel | None, None, None]:
        while True:
            header = bytearray(_HEADER.size)
            yield from self._filled(memoryview(header))
            length, carried = _HEADER.unpack(header)
            pickled = bytearray(length)
            yield from self._filled(memoryview(pickled))
            letters, address, end = pickle.loads(pickled)
            segment = None if address is None else self._inbox.segment(address)
            if carried:
                segment = self._landing.segment()
                yield from self._filled(segment.view(Segment.FIRST, carried))
            yield Parcel(letters, segment, end)

    def _filled(self, space: memoryview) -> Iterator[None]:
        while space:
            try:
                count = self._connection.recv_into(space)
            except BlockingIOError:
                yield None
                continue
            if not count:
                raise ConnectionResetError("the other end hung up")
            space = space[count:]
