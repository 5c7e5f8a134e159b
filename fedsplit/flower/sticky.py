"""The same apps on our own grid, in a Ray of its own or in a cluster that is already there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from fedsplit.flower.grid.grid import StickyGrid
from fedsplit.flower.grid.layout import Layout
from fedsplit.flower.server_app import Runner, run_job
from fedsplit.flower.simulation import Sticky

_APP = "fedsplit.flower.client_app:app"


def run(layout: str, folder: Path, serve: Callable[[Runner], None]) -> None:
    """Hands `serve` the means to run jobs. Workers start meanwhile; the first message waits for them."""
    simulation = Sticky.model_validate_json(layout)
    ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False, **_where(simulation, folder))
    cpus = int(ray.cluster_resources().get("CPU", 1))
    workers = Layout(
        workers=simulation.workers or max(1, cpus // simulation.cpus_per_client),
        cpus_per_worker=simulation.cpus_per_client,
        gpus_per_worker=simulation.gpus_per_client,
    )
    with StickyGrid(_APP, simulation.clients, workers) as grid:
        nodes = {client: grid.node(client) for client in range(simulation.clients)}
        serve(lambda job: run_job(job, grid, nodes, grid.replies, grid.restart_lost))


def _where(simulation: Sticky, folder: Path) -> dict[str, Any]:
    if simulation.address is not None:
        return {"address": simulation.address}
    # Of the GPUs, Ray counts those that are there.
    assert simulation.workers is not None, "without a cluster, somebody else has counted"
    return {"num_cpus": simulation.workers * simulation.cpus_per_client, "_temp_dir": str(folder)}
