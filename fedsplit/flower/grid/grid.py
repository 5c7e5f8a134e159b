"""Flower's grid over sticky Ray actors: replies are events, and each node always meets the same process."""

import select
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count
from math import inf
from time import monotonic
from typing import Any

import ray
from flwr.app import Message, RecordDict
from ray.util.scheduling_strategies import SchedulingStrategyT

from fedsplit.errors import EngineError
from fedsplit.flower.grid.hallway import Hallway
from fedsplit.flower.grid.layout import Layout
from fedsplit.flower.grid.link import Link
from fedsplit.flower.grid.release import FIRST_NODE, Grid, Run, identify, is_from_lost_worker, number
from fedsplit.flower.grid.room import room
from fedsplit.flower.grid.watch import woken
from fedsplit.flower.grid.worker import Worker

__all__ = ["StickyGrid", "is_from_lost_worker"]

_BETWEEN_COUNTS_SECONDS = 0.5
_BETWEEN_LOOKS_SECONDS = 1.0
"""So often Ray is asked whether those whose replies are waited for are still there."""


class StickyGrid(Grid):
    """Clients in groups on Ray actors, one per worker; client `c` is node `grid.node(c)`.

    A node always meets the same process, which keeps its `Context`. Its messages are handled in the order in which they
    were pushed. What one push has for one worker is one parcel where it is little or shared, so that calls cost little;
    a large message of a node's own leaves before the next is sealed. Replies come as they are ready.
    A message is sealed when it is pushed, a reply when the app returns it: tensors may change right after. Memory that
    messages were sent through is kept for the next ones until `close`. One thread at a time.
    """

    def __init__(
        self,
        app: str,
        clients: int,
        layout: Layout,
        *,
        scheduling_strategy: SchedulingStrategyT = None,
        run: int = 1,
    ) -> None:
        """Starts the workers in a running Ray without waiting for them; the first push does.

        `app`: the ClientApp as `package.module:attribute`, importable where the workers run.
        `scheduling_strategy`: on which machines Ray puts them. Workers for which it finds no room are waited for, too.
        """
        assert ray.is_initialized(), "a grid lives in a Ray that somebody else starts and ends"
        identify(run)
        self._run = Run.create_empty(run)
        self._app = app
        self._clients = clients
        self._options: dict[str, Any] = {
            "num_cpus": layout.cpus_per_worker,
            "num_gpus": layout.gpus_per_worker,
            "scheduling_strategy": scheduling_strategy,
        }
        self._in_flight = layout.in_flight
        self._layout = layout
        self._hallway = Hallway()
        self._links = [self._started() for _ in range(min(layout.workers, clients))]
        self._homes = {client: client % len(self._links) for client in range(clients)}
        """The worker of each client, by its place among the links."""
        self._next_look = 0.0
        self._numbers = count()
        self._arrived: dict[str, Message] = {}

    def __enter__(self) -> "StickyGrid":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers. What is outstanding is never answered."""
        for link in self._links:
            link.close()
        self._links.clear()
        self._hallway.close()

    def node(self, client: int) -> int:
        """The node of a client, 0 to one below their number."""
        return FIRST_NODE + client

    @property
    def groups(self) -> list[list[int]]:
        """The clients of each worker."""
        found: dict[int, list[int]] = {}
        for client, index in self._homes.items():
            found.setdefault(index, []).append(client)
        return list(found.values())

    def set_run(self, run: Run) -> None:
        """What `run` is from now on; contexts that a worker has already made keep the number of theirs."""
        self._run = run
        identify(run.run_id)

    @property
    def run(self) -> Run:
        """What the messages belong to."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """The same as the constructor of Message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """All nodes, in the order of the clients."""
        return [self.node(client) for client in range(self._clients)]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Sends each worker its messages; waits while a worker has those of as many pushes before it as it may.

        What a socket does not take at once goes on whenever this grid waits.

        Raises ValueError for a message to nobody or one that is itself a reply, before any is sent.
        """
        pushed = list(messages)
        waiting = self._by_worker(pushed)
        while waiting:
            for index in [index for index in waiting if len(self._links[index].calls) < self._in_flight]:
                self._keep(self._links[index].send(waiting.pop(index)))
            if waiting:
                self._wait()
        return [message.metadata.message_id for message in pushed]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Those replies that are there by now, each once; does not wait."""
        while self._wait(timeout=0):
            pass
        return self._taken(message_ids)

    def replies(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """Each reply as soon as it comes. Raises ValueError where one can never come: it was taken, or never pushed."""
        waiting = set(message_ids)
        while waiting:
            for reply in self._taken(waiting):
                waiting.discard(reply.metadata.reply_to_message_id)
                yield reply
            if waiting and not self._wait():
                raise ValueError(f"no reply can come to messages {', '.join(sorted(waiting))}")

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """The replies that come within so many seconds, or all; later ones can still be pulled."""
        pushed = self.push_messages(messages)
        if timeout is None:
            return list(self.replies(pushed))
        deadline = monotonic() + timeout
        found = self._taken(pushed)
        while len(found) < len(pushed) and self._wait(max(0.0, deadline - monotonic())):
            found += self._taken(pushed)
        return found

    def restart_lost(self) -> list[int]:
        """A fresh worker in place of each lost one; the nodes that start anew, without state.

        Where a machine is gone and the others have no room for as many workers, its nodes move to those that are left.
        Raises EngineError where none is.
        """
        lost = [index for index, link in enumerate(self._links) if link.lost]
        moved = [client for client, index in self._homes.items() if index in lost]
        for index in lost:
            self._links[index] = self._started()
        # Ray notices only after a while that a machine is gone. Until then a worker may wait for room there.
        waiting = list(lost)
        while waiting := [index for index in waiting if not self._links[index].ready(_BETWEEN_COUNTS_SECONDS)]:
            alive = sum(not link.lost for link in self._links)
            while waiting and alive > room(self._layout):
                self._links[waiting.pop()].abandon("no machine has room for it")
                alive -= 1
        staying = [index for index, link in enumerate(self._links) if not link.lost]
        if not staying:
            remedy = "add a machine, or ask for fewer CPUs or GPUs per client"
            raise EngineError("no machine that is left has room for a worker", at="engine", remedy=remedy)
        for turn, client in enumerate(client for client in moved if self._links[self._homes[client]].lost):
            self._homes[client] = staying[turn % len(staying)]
        return [self.node(client) for client in moved]

    def _started(self) -> Link:
        actor: Any = ray.remote(**self._options)(Worker).remote(self._app, self._clients, self._run.run_id)
        return Link(actor, actor.greet.remote(self._hallway.invitation()))

    def _by_worker(self, messages: Sequence[Message]) -> dict[int, list[Message]]:
        found: dict[int, list[Message]] = {}
        for message in messages:
            metadata = message.metadata
            client = metadata.dst_node_id - FIRST_NODE
            if metadata.reply_to_message_id or metadata.ttl <= 0:
                raise ValueError(f"a reply or a message without time to live cannot be pushed: {metadata}")
            if not 0 <= client < self._clients:
                raise ValueError(f"there is no node {metadata.dst_node_id}")
            found.setdefault(self._homes[client], []).append(message)
        for message in messages:
            number(message, str(next(self._numbers)))
        return found

    def _wait(self, timeout: float = inf) -> bool:
        """Until there are replies, which are then kept; False if none comes in this time, or none ever can."""
        deadline = monotonic() + timeout
        while busy := [link for link in self._links if link.calls]:
            poll = select.poll()
            watched = {link.watched(poll): link for link in busy}
            now = monotonic()
            left = max(0.0, min(deadline, self._next_look) - now)
            replies = [watched[number].receive() for number in woken(poll, left)]
            if now >= self._next_look:
                self._next_look = now + _BETWEEN_LOOKS_SECONDS
                replies += [link.look() for link in busy]
            self._keep(chain.from_iterable(replies))
            if any(replies):
                return True
            if now >= deadline:
                break
        return False

    def _keep(self, replies: Iterable[Message]) -> None:
        for reply in replies:
            self._arrived[reply.metadata.reply_to_message_id] = reply

    def _taken(self, message_ids: Iterable[str]) -> list[Message]:
        return [self._arrived.pop(name) for name in message_ids if name in self._arrived]
