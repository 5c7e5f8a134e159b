"""What one exchange with the clients costs: Flower's stock simulation against our grid, same app, same messages.

`python benchmarks/exchange.py` takes two minutes of two cores that do nothing else; `--quick` few clients and turns:
whether everything runs, not how fast. Prints a table, then one JSON object. A ratio is best over best of turns, its
interval that of the turns. Stock turns come first, in a process of their own: both sides bring their own Ray.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Before flwr is imported.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

import ray
import torch
from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation
from sparse_coding.figure import Figure, Goal, ratio, turns
from torch import Tensor

from fedsplit.flower.grid.array import to_record, to_tensors
from fedsplit.flower.grid.grid import StickyGrid
from fedsplit.flower.grid.layout import Layout

WORKERS = 2
FLOATS = 1 << 22
"""16 MiB."""

app = ClientApp()


@app.query()
def echo(message: Message, context: Context) -> Message:
    del context
    return Message(message.content, reply_to=message)


@dataclass(frozen=True)
class Effort:
    """clients: the most. repeats: turns of each side, with one client and with all."""

    clients: int
    repeats: int


WHOLE, QUICK = Effort(clients=1000, repeats=7), Effort(clients=20, repeats=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="whether everything runs, in seconds")
    effort = QUICK if parser.parse_args().quick else WHOLE
    torch.set_num_threads(1)
    figures: dict[str, Figure] = {}
    for figure in measured(effort):
        print(figure, flush=True)
        figures[figure.name] = figure
    print(json.dumps({name: [round(value, 4) for value in (f.value, *f.interval)] for name, f in figures.items()}))


def measured(effort: Effort) -> Iterator[Figure]:
    stock_one, stock_all = (stock_turns(clients, effort.repeats) for clients in (1, effort.clients))
    with started_ray(), StickyGrid("exchange:app", effort.clients, Layout(workers=WORKERS)) as grid:
        # Both workers are there before anything is measured.
        exchange(grid, effort.clients)
        sizes = (1, 10, effort.clients)
        one, ten, all_ = turns([lambda size=size: exchange(grid, size) for size in sizes], effort.repeats)
        yield Figure("one client, stock / ours", *ratio(stock_one, one), Goal("at least", 80), shown(stock_one, one))
        name = f"{effort.clients} clients, stock / ours"
        yield Figure(name, *ratio(stock_all, all_), Goal("at least", 100), shown(stock_all, all_))
        name = f"per client, {effort.clients} / 10"
        yield Figure(name, *ratio(all_, ten, 10 / effort.clients), Goal("at most", 1), shown(all_, ten))

        sent, copied = torch.ones(FLOATS), torch.zeros(FLOATS)
        large, copy = turns([lambda: exchange_tensor(grid, sent), lambda: copied.copy_(sent)], effort.repeats)
        yield Figure(
            "16 MiB there and back / 2 copies", *ratio(large, copy, 0.5), Goal("at most", 4), shown(large, copy)
        )


def stock_turns(clients: int, repeats: int) -> list[float]:
    """Seconds of each of so many exchanges of Flower's stock simulation."""
    command = [sys.executable, "-c", f"import exchange; exchange.stock({clients}, {repeats})"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def stock(clients: int, repeats: int) -> None:
    """In a process of its own: prints what `stock_turns` returns."""
    server = ServerApp()

    @server.main()
    def run(grid: Grid, context: Context) -> None:
        del context
        while len(list(grid.get_node_ids())) < clients:
            time.sleep(0.1)
        exchange(grid, clients)
        found: list[float] = []
        for _ in range(repeats):
            began = time.perf_counter()
            exchange(grid, clients)
            found.append(time.perf_counter() - began)
        print(json.dumps(found))

    run_simulation(
        server,
        app,
        clients,
        backend_config={"init_args": {"num_cpus": WORKERS}, "client_resources": {"num_cpus": 1, "num_gpus": 0}},
    )


@contextmanager
def started_ray() -> Iterator[None]:
    # Ray's sockets need a short path.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        yield
        ray.shutdown()


def exchange(grid: Grid, clients: int) -> None:
    """An empty message to each client, and all replies."""
    nodes = sorted(grid.get_node_ids())[:clients]
    replies = list(grid.send_and_receive(Message(RecordDict(), node, "query") for node in nodes))
    assert len(replies) == clients
    assert not any(reply.has_error() for reply in replies)


def exchange_tensor(grid: StickyGrid, tensor: Tensor) -> Tensor:
    """Its way to a client and back."""
    message = Message(RecordDict({"arrays": to_record({"tensor": tensor})}), grid.node(0), "query")
    (reply,) = grid.send_and_receive([message])
    record = reply.content["arrays"]
    assert isinstance(record, ArrayRecord)
    return to_tensors(record)["tensor"]


def shown(above: list[float], below: list[float]) -> str:
    """The best of both sides."""
    return f"{1e3 * min(above):.3g} ms / {1e3 * min(below):.3g} ms"


if __name__ == "__main__":
    main()
