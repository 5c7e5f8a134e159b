"""How two processes find out whether they can share memory: by trying."""

import os
from pathlib import Path
from typing import NamedTuple

from fedsplit.flower.grid.segment import Address, Segment


class Invitation(NamedTuple):
    """By which another process finds out whether it can share memory with the one that wrote this."""

    host: str
    address: Address
    token: bytes

    def can_be_accepted(self) -> bool:
        """Whether the segment at this address is there for this process, too, and holds the token."""
        # Asked first: on another machine the same address may belong to anything.
        if not self.host or self.host != host():
            return False
        try:
            segment = Segment.open(self.address)
        except OSError:
            return False
        found = bytes(segment.view(Segment.FIRST, len(self.token)))
        segment.close()
        return found == self.token


class Hallway:
    """A segment for nothing but to be found: kept by whoever invites."""

    def __init__(self) -> None:
        self._segment = Segment.create() if host() else None
        self._token = os.urandom(16)
        if self._segment is not None:
            self._segment.view(Segment.FIRST, len(self._token))[:] = self._token

    def invitation(self) -> Invitation:
        """For anybody."""
        address = Address(0, 0) if self._segment is None else self._segment.address
        return Invitation(host() if self._segment else "", address, self._token)

    def close(self) -> None:
        """Nobody can accept any longer."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None


def host() -> str:
    """Equal for two processes if numbers of processes and names of sockets mean the same to both.

    Empty where memory cannot be shared by a process number. Names of machines will not do: two machines may have the
    same, and two containers of one machine see different processes.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return " ".join([boot, *(str(Path("/proc/self/ns", kind).readlink()) for kind in ("pid", "net"))])
    except OSError:
        return ""
