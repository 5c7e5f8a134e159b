"""The process that hosts a group of clients. It alone ever serves them, so what their app keeps is there next time."""

import gc
import importlib
import traceback
from collections.abc import Iterator
from time import monotonic
from typing import NamedTuple, cast

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedsplit.flower.grid.door import Door, Entrance
from fedsplit.flower.grid.hallway import Hallway, Invitation
from fedsplit.flower.grid.letter import sealed
from fedsplit.flower.grid.line import Line
from fedsplit.flower.grid.parcel import Parcel
from fedsplit.flower.grid.release import FIRST_NODE, app_failed, app_missing, new_context, number

_TOGETHER_SECONDS = 0.001
"""Replies that come about within so long go together, later ones in a parcel of their own: whoever waits for them opens
some while the next are made."""


class Greeting(NamedTuple):
    """A worker's answer to an invitation."""

    entrance: Entrance
    invitation: Invitation | None
    """In return, where this worker can accept the one it got."""


class Worker:
    """Runs a client app for its nodes; becomes a Ray actor, which Ray places and watches. Messages come by a line."""

    def __init__(self, app: str, clients: int, run: int) -> None:
        """`app`: `package.module:attribute`. `clients`: of the whole grid."""
        self._clients = clients
        self._run = run
        self._contexts: dict[int, Context] = {}
        self._hallway = Hallway()
        self._door: Door | None = None
        self._app: ClientApp | None = None
        self._missing = ""
        try:
            module, _, attribute = app.partition(":")
            self._app = cast(ClientApp, getattr(importlib.import_module(module), attribute))
        except Exception:  # whatever is wrong with a stranger's module is told to whoever sends a message
            self._missing = traceback.format_exc().strip()
        # What is there by now stays; to look through it for garbage takes longer than many an exchange.
        gc.collect()
        gc.freeze()

    def greet(self, invitation: Invitation) -> Greeting:
        """Opens a door to this worker."""
        near = invitation.can_be_accepted()
        self._door = Door(near=near)
        return Greeting(self._door.entrance, self._hallway.invitation() if near else None)

    def attend(self, shares_memory: bool) -> None:
        """Answers whoever enters, parcel by parcel, until that hangs up."""
        assert self._door is not None, "nobody enters who has not been greeted"
        line = self._door.opened(shares_memory=shares_memory)
        try:
            while True:
                line.flush()
                if (parcel := line.receive()) is None:
                    line.wait()
                    continue
                for replies in self._exchanged(line, parcel):
                    line.send(replies)
        except ConnectionError:
            pass
        finally:
            line.close()

    def _exchanged(self, line: Line, parcel: Parcel) -> Iterator[Parcel]:
        """Replies in the order of the messages, those together that come about at the same time."""
        left, began = len(parcel.letters), monotonic()
        sealer = line.sealer()
        for message in parcel.opened():
            try:
                sealer.add(sealed(self._reply(message)))
            except Exception:
                sealer.add(sealed(app_failed(message.metadata, traceback.format_exc().strip())))
            left -= 1
            if left and monotonic() - began > _TOGETHER_SECONDS:
                yield sealer.parcel()
                sealer, began = line.sealer(), monotonic()
        yield sealer.parcel()

    def _reply(self, message: Message) -> Message:
        if self._app is None:
            return app_missing(message.metadata, self._missing)
        node = message.metadata.dst_node_id
        if node not in self._contexts:
            self._contexts[node] = new_context(self._run, node - FIRST_NODE, self._clients)
        reply = self._app(message, self._contexts[node])
        number(reply, f"{message.metadata.message_id}/reply")
        return reply
