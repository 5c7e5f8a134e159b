"""How a line between two processes comes about: one of them opens a door and has the other one told where it is."""

import hmac
import secrets
import socket
import struct
from typing import Any, NamedTuple

import ray

from fedsplit.flower.grid.line import Line

_CONNECT_SECONDS = 60.0
_TOKEN_SECONDS = 10
"""So long whoever connects may take to send the token; whom a door is for sends it at once."""
_IDLE_SECONDS = 60
"""After so long without traffic the ends assure each other: what is between two machines forgets silent connections."""


class Entrance(NamedTuple):
    """Where a door is, and the token that lets somebody in; only to be told to whom it is for."""

    family: socket.AddressFamily
    name: Any
    """What sockets of this family call an address."""
    token: bytes

    def enter(self, *, shares_memory: bool) -> Line:
        """Without waiting until the door opens. Raises OSError where there is no door."""
        connection = socket.socket(self.family)
        try:
            connection.settimeout(_CONNECT_SECONDS)
            connection.connect(self.name)
            connection.sendall(self.token)
        except BaseException:
            connection.close()
            raise
        return _joined(connection, shares_memory=shares_memory)


class Door:
    """Opens once, to the first who has the token."""

    def __init__(self, *, near: bool) -> None:
        """`near`: for a process to which a socket's name means the same; else for any that reaches this machine."""
        # Linux finds a name for a socket that has none. It goes with the socket, however its process ends.
        family, name = (socket.AF_UNIX, "") if near else _of_this_machine()
        self._socket = socket.socket(family)
        self._socket.bind(name)
        self._socket.listen()
        self.entrance = Entrance(family, self._socket.getsockname(), secrets.token_bytes(32))

    def opened(self, *, shares_memory: bool) -> Line:
        """Waits for whom it is for."""
        token = self.entrance.token
        with self._socket:
            while True:
                connection, _ = self._socket.accept()
                if _sends(connection, token):
                    return _joined(connection, shares_memory=shares_memory)
                connection.close()


def _sends(connection: socket.socket, token: bytes) -> bool:
    """Whether the token comes, and in time: nobody may keep out whom the door is for by saying nothing."""
    # Not by `settimeout`, with which MSG_WAITALL would no longer wait for all of the token.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", _TOKEN_SECONDS, 0))
    try:
        return hmac.compare_digest(connection.recv(len(token), socket.MSG_WAITALL), token)
    except OSError:
        return False


def _of_this_machine() -> tuple[socket.AddressFamily, Any]:
    """As the cluster knows it; any free port."""
    family, _, _, _, name = socket.getaddrinfo(ray.util.get_node_ip_address(), 0, type=socket.SOCK_STREAM)[0]
    return family, name


def _joined(connection: socket.socket, *, shares_memory: bool) -> Line:
    if connection.family != socket.AF_UNIX:
        # The end of a parcel must not wait until the other end says that it has the rest.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_SECONDS)
    return Line(connection, shares_memory=shares_memory)
