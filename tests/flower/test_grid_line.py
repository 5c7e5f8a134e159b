import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

pytest.importorskip("flwr")

import ray
import torch

from fedsplit.flower.grid import door as doors
from fedsplit.flower.grid.door import Door
from fedsplit.flower.grid.line import Line
from tests.flower.test_grid_parcel import Ends, arrived, found, joined, message, parcel_of

LARGE = 1 << 22
"""float32 elements: many times what a socket holds."""


@pytest.fixture
def ends() -> Iterator[Ends]:
    with joined(shares_memory=False) as ends:
        yield ends


@pytest.mark.parametrize("near", [True, False])
def test_a_door_opens_once_and_only_to_the_token(near: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    door = Door(near=near)
    assert door.entrance.family == (socket.AF_UNIX if near else socket.AF_INET)
    with socket.socket(door.entrance.family) as stranger:
        stranger.connect(door.entrance.name)
        stranger.sendall(bytes(len(door.entrance.token)))
        outside = door.entrance.enter(shares_memory=False)
        outside.send(parcel_of((outside, outside), message(name="hello")))
        inside = door.opened(shares_memory=False)
        assert stranger.recv(1) == b""
    inside.wait()
    parcel = inside.receive()
    assert parcel is not None
    assert [each.content.config_records["values"]["name"] for each in parcel.opened()] == ["hello"]
    with pytest.raises(ConnectionRefusedError):
        door.entrance.enter(shares_memory=False)
    outside.close()
    inside.wait()
    with pytest.raises(ConnectionResetError):
        inside.receive()
    inside.close()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("near", [True, False])
def test_who_is_silent_breaks_off_or_hangs_up_keeps_nobody_out(near: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setattr(doors, "_TOKEN_SECONDS", 1)
    door = Door(near=near)
    with ExitStack() as stack:
        gone, silent, halting = (stack.enter_context(socket.socket(door.entrance.family)) for _ in range(3))
        for stranger in (gone, silent, halting):
            stranger.connect(door.entrance.name)
        # Closed so, a connection between machines is reset.
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.close()
        halting.sendall(door.entrance.token[:-1])
        outside = door.entrance.enter(shares_memory=False)
        inside = door.opened(shares_memory=False)
        assert silent.recv(1) == halting.recv(1) == b""
    outside.send(parcel_of((outside, outside), message(name="hello")))
    inside.wait()
    assert inside.receive() is not None
    for end in (outside, inside):
        end.close()


def test_both_ends_may_send_more_than_the_socket_holds(ends: Ends) -> None:
    near, far = ends
    for end, value in ((near, 1.0), (far, 2.0)):
        end.send(parcel_of((end, end), message(torch.full((LARGE,), value))))
    assert near.behind
    assert far.behind
    received = dict[Line, float]()
    while len(received) < 2:
        for end in ends:
            end.flush()
            parcel = end.receive()
            if parcel is not None:
                received[end] = float(found(*parcel.opened())[0].mean())
    assert received == {near: 2.0, far: 1.0}
    assert not near.behind
    assert not far.behind


def test_parcels_come_in_order_one_at_a_time(ends: Ends) -> None:
    near, far = ends
    for number in range(3):
        near.send(parcel_of(ends, message(name=str(number))))
    names = [far.receive() for _ in range(4)]
    assert names.pop() is None
    contents = [each.content for parcel in names if parcel for each in parcel.opened()]
    assert [content.config_records["values"]["name"] for content in contents] == ["0", "1", "2"]


def test_what_was_sent_whole_is_received_after_the_other_end_hung_up_and_what_was_not_never(ends: Ends) -> None:
    near, far = ends
    near.send(parcel_of(ends, message(name="whole")))
    near.send(parcel_of(ends, message(torch.zeros(LARGE))))
    assert near.behind
    near.close()
    # Sending does not get in the way of what there still is to hear.
    far.send(parcel_of((far, far), message()))
    whole = far.receive()
    assert whole is not None
    assert [each.content.config_records["values"]["name"] for each in whole.opened()] == ["whole"]
    with pytest.raises(ConnectionError):
        list(iter(far.receive, whole))


def test_what_came_stays_valid_when_the_line_is_closed(ends: Ends) -> None:
    (opened,) = arrived(ends, parcel_of(ends, message(torch.ones(LARGE)))).opened()
    for end in ends:
        end.close()
    (tensor,) = found(opened)
    assert bool((tensor == 1).all())
