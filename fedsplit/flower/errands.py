"""Errands as Ray tasks: each in a process of its own that holds the CPUs and GPUs it declared."""

import asyncio
import importlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fedsplit.errors import EngineError
from fedsplit.federation.errand import Errand, Files
from fedsplit.flower.order import ORDER, Order
from fedsplit.flower.relay import Teller
from fedsplit.flower.simulation import Progress
from fedsplit.progress import observed_by

_RETRIES = 3
"""How often an errand is done again whose process died."""


def started_board() -> Any:
    """A board for `spread`, on this machine: no other one may take it along. Starting one takes a second, so it is kept
    for the next order."""
    here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Board).remote()


def spread(
    board: Any,
    order: Order,
    given: Callable[[str], None],
    show: Callable[[Progress], None],
    *,
    cpus: float,
    gpus: float,
) -> None:
    """Does all errands of an order as the cluster has room for them. An errand whose process dies is done again.

    given: told the name of each that is done, after its files are written. show: told of its loops.
    """
    assert order.given is not None, "errands need a folder for what they give"
    showing = threading.Thread(target=_show, args=(board, show), daemon=True)
    showing.start()
    task: Any = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=_RETRIES)(do)
    waiting = {task.remote(errand, board): errand for errand in order.errands}
    try:
        while waiting:
            (done,), _ = ray.wait(list(waiting))
            name = waiting[done].name
            _write(order.given / name, _result(done, name))
            del waiting[done]
            given(name)
    finally:
        for unfinished in waiting:
            ray.cancel(unfinished, force=True)
        ray.get(board.tell.remote(None))
        showing.join()


def do(errand: Errand, board: Any) -> Files:
    """What a task runs."""
    module, _, function = errand.function.partition(":")
    # Waited for, so that all is told before the task is over.
    with observed_by(Teller(lambda progress: ray.get(board.tell.remote(progress)), errand.name)):
        return getattr(importlib.import_module(module), function)(errand.settings)


class Board:
    """Where tasks write how far they are, and the driver waits for news; becomes a Ray actor."""

    def __init__(self) -> None:
        self._news: asyncio.Queue[Progress | None] = asyncio.Queue()

    async def tell(self, progress: Progress | None) -> None:
        """From any task; None, from the driver: there will be no more."""
        await self._news.put(progress)

    async def next(self) -> Progress | None:
        """Waits."""
        return await self._news.get()


def _show(board: Any, show: Callable[[Progress], None]) -> None:
    while progress := _news(board):
        show(progress)


def _news(board: Any) -> Progress | None:
    return cast(Progress | None, ray.get(board.next.remote()))


def _result(done: Any, name: str) -> Files:
    try:
        return ray.get(done)
    except RayTaskError as error:
        raise error.cause from error
    except RayError as error:
        # Ray tells at length; its first line says what happened.
        first, *_ = str(error).strip().splitlines() or [""]
        reason = f"its process died each time ({type(error).__name__}: {first})"
        remedy = "have fewer cells side by side (engine.workers), or give the machine more memory"
        raise EngineError(reason, at=name, remedy=remedy) from error


def _write(folder: Path, files: Files) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / ORDER).write_text(json.dumps(list(files)))
