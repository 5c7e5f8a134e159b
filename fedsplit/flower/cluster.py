"""Starts a Ray of its own, or joins a cluster that is already there, while what computes is imported."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from fedsplit.flower.simulation import Sticky

if TYPE_CHECKING:
    from fedsplit.flower.errands import Spreader
    from fedsplit.flower.server_app import Runner

_SERVER = "fedsplit.flower.sticky"


def run(layout: str, folder: Path, serve: Callable[[Runner, Spreader], None]) -> None:
    """Hands `serve` the means to run jobs and to do errands."""
    simulation = Sticky.model_validate_json(layout)
    importing = threading.Thread(target=importlib.import_module, args=(_SERVER,), daemon=True)
    importing.start()
    ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False, **_where(simulation, folder))
    # The processes that Ray starts with are left alone: one that has done any task can no longer become a worker.
    importing.join()
    importlib.import_module(_SERVER).serve_in(simulation, serve)


def _where(simulation: Sticky, folder: Path) -> dict[str, Any]:
    if simulation.address is not None:
        return {"address": simulation.address}
    # Said in words, since RAY_ADDRESS would count otherwise. Of the GPUs, Ray counts those that are there.
    assert simulation.workers is not None, "without a cluster, somebody else has counted"
    return {"address": "local", "num_cpus": simulation.workers * simulation.cpus_per_client, "_temp_dir": str(folder)}
