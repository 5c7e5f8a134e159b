"""The client apps that `test_grid` runs in its workers."""

import os
import time

import pytest

pytest.importorskip("flwr")

import ray
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
    call = ray.get_runtime_context().get_task_id()
    telemetry = FLWR_TELEMETRY_ENABLED
    return answer(
        message, partition=partition, partitions=partitions, process=os.getpid(), call=str(call), telemetry=telemetry
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
