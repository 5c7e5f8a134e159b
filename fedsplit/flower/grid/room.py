"""How many workers the machines of a cluster have room for."""

from collections.abc import Mapping
from math import ceil

import ray

from fedsplit.flower.grid.layout import Layout

_UNLIMITED = 1 << 20
_ROUNDING = 1e-6
"""A third of a device fits into it three times."""


def room(layout: Layout) -> int:
    """How many workers like these the living machines have room for, whoever else uses them now."""
    own = ray.get_runtime_context().get_node_id()
    return sum(
        places(layout, node["Resources"], layout.gpus_for_server if node["NodeID"] == own else 0.0)
        for node in ray.nodes()
        if node["Alive"]
    )


def places(layout: Layout, resources: Mapping[str, float], taken: float = 0.0) -> int:
    """How many on one machine; `taken`: of its GPUs, by the server."""
    cpus = layout.cpus_per_worker
    by_cpus = int(resources.get("CPU", 0.0) / cpus + _ROUNDING) if cpus else _UNLIMITED
    return min(by_cpus, _on_devices(int(resources.get("GPU", 0.0)), layout.gpus_per_worker, taken))


def _on_devices(devices: int, share: float, taken: float) -> int:
    """Ray gives a share of one device, or whole ones: what is left of two does not add up."""
    if not share:
        return _UNLIMITED
    touched = ceil(taken - _ROUNDING)
    untouched = max(0, devices - touched)
    if share >= 1:
        return int(untouched / share)
    rest = touched - taken if touched <= devices else 0.0
    return untouched * int(1 / share + _ROUNDING) + int(rest / share + _ROUNDING)
