"""What crosses between server and clients: Flower records on the wire, tasks and updates on either side of it."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from torch import Tensor

from fedsplit.federation.plan import State
from fedsplit.federation.roles import Task, Update
from fedsplit.records.exchange import Exchange

_STATES = ("client_state", "server_state", "client_memory", "server_memory")
_CROSSED = ("rows", "smashed", "gradient", "labels")


def to_record(tensors: Mapping[str, Tensor]) -> ArrayRecord:
    """Named tensors of any shape -> a record of NumPy arrays, exactly: names, order, types, values."""
    return ArrayRecord({name: Array(value.detach().cpu().contiguous().numpy()) for name, value in tensors.items()})


def to_tensors(record: ArrayRecord) -> State:
    """What `to_record` was given, in memory of torch's own."""
    # Cloned: NumPy aligns its memory less strictly than torch, and the order of vectorised sums may depend on that.
    return {name: torch.from_numpy(array.numpy()).clone() for name, array in record.items()}


def pack_task(job: str, task: Task) -> RecordDict:
    """A task and the job it belongs to, as JSON."""
    states = {name: to_record(getattr(task, name)) for name in _STATES}
    return RecordDict({**states, "task": ConfigRecord({"job": job, "round": task.round, "client": task.client})})


def unpack_task(content: RecordDict) -> tuple[str, Task]:
    """What `pack_task` was given."""
    settings = content.config_records["task"]
    task = Task(_integer(settings, "round"), _integer(settings, "client"), *_states(content))
    return cast(str, settings["job"]), task


def pack_update(update: Update) -> RecordDict:
    """An update, its exchanges included."""
    crossed = {
        f"{number}/{name}": cast(Tensor, getattr(exchange, name))
        for number, exchange in enumerate(update.exchanges)
        for name in _CROSSED
    }
    settings = ConfigRecord(
        {
            "client": update.client,
            "examples": update.examples,
            "losses": list(update.losses),
            "bytes": list(update.bytes),
            "rounds": [exchange.round for exchange in update.exchanges],
            "steps": [exchange.step for exchange in update.exchanges],
        }
    )
    states = {name: to_record(getattr(update, name)) for name in _STATES}
    return RecordDict({**states, "exchanges": to_record(crossed), "update": settings})


def unpack_update(content: RecordDict) -> Update:
    """What `pack_update` was given."""
    settings = content.config_records["update"]
    client = _integer(settings, "client")
    crossed = to_tensors(content.array_records["exchanges"])
    rounds, steps = cast(Sequence[int], settings["rounds"]), cast(Sequence[int], settings["steps"])
    exchanges = (
        Exchange(round_, client, step, *(crossed[f"{number}/{name}"] for name in _CROSSED))
        for number, (round_, step) in enumerate(zip(rounds, steps, strict=True))
    )
    up, down = cast(Sequence[int], settings["bytes"])
    return Update(
        client,
        _integer(settings, "examples"),
        *_states(content),
        exchanges=tuple(exchanges),
        losses=tuple(cast(Sequence[float], settings["losses"])),
        bytes=(up, down),
    )


def _states(content: RecordDict) -> tuple[State, State, State, State]:
    client, server, client_memory, server_memory = (to_tensors(content.array_records[name]) for name in _STATES)
    return client, server, client_memory, server_memory


def _integer(settings: ConfigRecord, name: str) -> int:
    return cast(int, settings[name])
