"""The client apps that `test_grid` runs in its workers."""

import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("flwr")

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.telemetry import FLWR_TELEMETRY_ENABLED
from torch import Tensor

from fedsplit.flower.grid.array import to_record, to_tensors

app = ClientApp()

SEEN: dict[int, int] = {}
KEPT: list[Tensor] = []
REUSED = torch.zeros(1 << 18)


def answer(message: Message, **values: str | int | float) -> Message:
    return Message(RecordDict({"answer": ConfigRecord(dict(values))}), reply_to=message)


@app.query("echo")
def echo(message: Message, context: Context) -> Message:
    return Message(message.content, reply_to=message)


@app.query("who")
def who(message: Message, context: Context) -> Message:
    partition, partitions = int(context.node_config["partition-id"]), int(context.node_config["num-partitions"])
    telemetry = FLWR_TELEMETRY_ENABLED
    return answer(
        message,
        partition=partition,
        partitions=partitions,
        process=os.getpid(),
        parent=os.getppid(),
        telemetry=telemetry,
    )


@app.train("count")
def count(message: Message, context: Context) -> Message:
    """Counts this node's messages twice: in its state and in the module."""
    state = context.state.config_records.get("count", ConfigRecord({"number": 0}))
    context.state["count"] = ConfigRecord({"number": int(state["number"]) + 1})
    SEEN[context.node_id] = SEEN.get(context.node_id, 0) + 1
    return answer(message, state=int(state["number"]) + 1, module=SEEN[context.node_id])


@app.train("breaks")
def breaks(message: Message, context: Context) -> Message:
    if context.node_config["partition-id"] == 1:
        raise ValueError("a client fell over")
    return echo(message, context)


@app.train("dies")
def dies(message: Message, context: Context) -> Message:
    if context.node_config["partition-id"] == 1:
        os.kill(os.getpid(), 9)
    return echo(message, context)


@app.train("exits")
def exits(message: Message, context: Context) -> Message:
    raise SystemExit


@app.train("floods")
def floods(message: Message, context: Context) -> Message:
    """Answers with 256 MiB, and dies before anybody can have received them."""
    threading.Timer(0.5, os.kill, (os.getpid(), 9)).start()
    return Message(RecordDict({"arrays": to_record({"tensor": torch.zeros(1 << 26)})}), reply_to=message)


@app.train("leaves_a_child")
def leaves_a_child(message: Message, context: Context) -> Message:
    """Dies, but its end of the line stays open for a while."""
    if os.fork() == 0:
        kept = lines()
        for descriptor in range(3, 1000):
            if descriptor not in kept:
                with suppress(OSError):
                    os.close(descriptor)
        time.sleep(60)
        os._exit(0)
    os.kill(os.getpid(), 9)
    raise AssertionError


@app.train("reuses")
def reuses(message: Message, context: Context) -> Message:
    """Answers with the same memory for all nodes, filled with the number of each."""
    REUSED.fill_(int(context.node_config["partition-id"]))
    return Message(RecordDict({"arrays": to_record({"tensor": REUSED})}), reply_to=message)


@app.train("keeps")
def keeps(message: Message, context: Context) -> Message:
    """Keeps each tensor that comes, and answers with the first element of all."""
    KEPT.append(arrays(message)["tensor"])
    first = torch.stack([kept.flatten()[0] for kept in KEPT])
    return Message(RecordDict({"arrays": to_record({"tensor": first})}), reply_to=message)


@app.train("in_place")
def in_place(message: Message, context: Context) -> Message:
    """Changes what came."""
    tensors = arrays(message)
    tensors["tensor"] += 1
    return Message(RecordDict({"arrays": to_record(tensors)}), reply_to=message)


@app.query("slowly")
def slowly(message: Message, context: Context) -> Message:
    """Takes longer than replies wait for each other."""
    time.sleep(0.01)
    return answer(message, slow=True)


@app.query("waits")
def waits(message: Message, context: Context) -> Message:
    """Answers once there is a file of the name that comes."""
    while not Path(str(message.content.config_records["values"]["file"])).exists():
        time.sleep(0.005)
    return answer(message, waited=True)


@app.query("clock")
def clock(message: Message, context: Context) -> Message:
    return answer(message, seconds=time.monotonic())


def arrays(message: Message) -> dict[str, Tensor]:
    record = message.content["arrays"]
    assert isinstance(record, ArrayRecord)
    return to_tensors(record)


def stamp(message: Message, context: Context, call_next):
    reply = call_next(message, context)
    reply.content["stamp"] = ConfigRecord({"by": "a mod"})
    return reply


with_mods = ClientApp(mods=[stamp])
with_mods.query("echo")(echo)


def lines() -> set[int]:
    """The descriptors of sockets whose name is in no file system: by which driver and worker are joined."""
    found: set[int] = set()
    for path in Path("/proc/self/fd").iterdir():
        if path.is_symlink() and "socket:" in str(path.readlink()):
            with socket.socket(fileno=os.dup(int(path.name))) as copy, suppress(OSError):
                if any(
                    isinstance(name, bytes) and name[:1] == b"\0" for name in (copy.getsockname(), copy.getpeername())
                ):
                    found.add(int(path.name))
    return found
