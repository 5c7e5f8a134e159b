"""The share of a GPU for the process that holds the server segment: Ray counts only what somebody asks it for."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fedsplit.errors import EngineError


@contextmanager
def reserved(gpus: float) -> Iterator[None]:
    """Holds so many GPUs of this machine inside the block, and lets this process see no others; nothing where it is 0.

    Waits while somebody else uses them. Raises EngineError where the machine has too few. Torch must not have looked
    for GPUs before.
    """
    if not gpus:
        yield
        return
    own = ray.get_runtime_context().get_node_id()
    there = next(node["Resources"].get("GPU", 0.0) for node in ray.nodes() if node["NodeID"] == own)
    if gpus > there:
        remedy = "lower it, or start the command on a machine with more"
        raise EngineError(f"this machine has {there:g} GPUs", at="engine.gpus_for_server", value=gpus, remedy=remedy)
    here: Any = NodeAffinitySchedulingStrategy(own, soft=False)
    keeper: Any = ray.remote(num_cpus=0, num_gpus=gpus, scheduling_strategy=here)(Keeper).remote()
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(ray.get(keeper.devices.remote()))
    try:
        yield
    finally:
        ray.kill(keeper)


class Keeper:
    """Holds what Ray set aside, and does nothing with it; becomes a Ray actor."""

    def devices(self) -> list[str]:
        """By which names CUDA knows them."""
        return [str(device) for device in ray.get_runtime_context().get_accelerator_ids()["GPU"]]
