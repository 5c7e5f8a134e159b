"""Flower's own simulation, which starts Ray itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flwr.simulation import run_simulation

from fedsplit.flower.client_app import app as client_app
from fedsplit.flower.nodes import server_app
from fedsplit.flower.server_app import Runner
from fedsplit.flower.simulation import Stock


def run(layout: str, folder: Path, serve: Callable[[Runner], None]) -> None:
    """Hands `serve` the means to run jobs, once the clients are there."""
    simulation = Stock.model_validate_json(layout)
    server = server_app(lambda gather, _: serve(gather(simulation.clients).run))
    run_simulation(server, client_app, simulation.clients, backend_config=_backend(simulation, folder))


def _backend(simulation: Stock, folder: Path) -> dict[str, dict[str, Any]]:
    """Flower's settings of Ray: a cluster of our own with just enough CPUs, or the one at RAY_ADDRESS as it is."""
    resources = {"num_cpus": simulation.cpus_per_client, "num_gpus": simulation.gpus_per_client}
    init: dict[str, Any] = {"log_to_driver": False}
    if simulation.workers is not None:
        init |= {"num_cpus": simulation.workers * simulation.cpus_per_client, "_temp_dir": str(folder)}
    return {"init_args": init, "client_resources": resources}
