"""Errands as Ray tasks: each in a process of its own that holds the CPUs and GPUs it declared."""

import importlib
import threading
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fedsplit.errors import EngineError
from fedsplit.federation.errand import Errand, Files
from fedsplit.federation.queue import Queue
from fedsplit.flower.board import Board
from fedsplit.flower.grid.layout import Layout
from fedsplit.flower.order import Order, read_files, write_files
from fedsplit.flower.relay import Teller
from fedsplit.flower.simulation import Progress
from fedsplit.progress import observed_by

_RETRIES = 3
"""How often an errand is done again whose process died."""

Spreader = Callable[[Order, Callable[[str], None], Callable[[Progress], None]], None]
"""(order, told of each errand that is done, told of its loops) -> every errand done."""


def started_board() -> Any:
    """A board for `spread`, on this machine: no other one may take it along. Starting one takes a while, so it is kept
    for the next order."""
    here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Board).remote()


def spread(
    board: Any,
    order: Order,
    given: Callable[[str], None],
    show: Callable[[Progress], None],
    workers: Layout,
) -> None:
    """Does all errands of an order, as many side by side as there are workers. An errand whose process dies is done
    again.

    given: told the name of each that is done and kept, after its files are written. show: told of its loops.
    """
    assert order.given is not None, "errands need a folder for what they give"
    showing = threading.Thread(target=_show, args=(board, show), daemon=True)
    showing.start()
    task: Any = ray.remote(num_cpus=workers.cpus_per_worker, num_gpus=workers.gpus_per_worker, max_retries=_RETRIES)(do)
    here = {name for errand in order.errands for name in errand.after} - {errand.name for errand in order.errands}
    # What an errand gave stays in Ray's own memory, from where it goes to those that come after it, on any machine.
    done: dict[str, Any] = {name: ray.put(read_files(order.given / name)) for name in sorted(here)}
    supplies: dict[str, Any] = {name: ray.put(read_files(order.given / name)) for name in order.supplies}
    queue = Queue(order.errands, workers.workers, done)
    running: dict[Any, Errand] = {}
    try:
        while queue:
            while errand := queue.next():
                # References in a dict go as they are: a task that looks for no supplies needs no room for them.
                running[task.remote(errand, board, supplies, *(done[name] for name in errand.after))] = errand
            (reference,), _ = ray.wait(list(running))
            errand = running[reference]
            files = _result(reference, errand.name)
            done[errand.name] = reference
            del running[reference]
            queue.finish(errand)
            done = {name: done[name] for name in queue.awaited & done.keys()}
            if errand.kept:
                write_files(order.given / errand.name, files)
                given(errand.name)
    finally:
        for unfinished in running:
            ray.cancel(unfinished, force=True)
        ray.get(board.tell.remote(None))
        showing.join()


class _Supplies(Mapping[str, Files]):
    """Fetched to this machine when somebody looks."""

    def __init__(self, references: Mapping[str, Any]) -> None:
        self._references = references

    def __getitem__(self, name: str) -> Files:
        return ray.get(self._references[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._references)

    def __len__(self) -> int:
        return len(self._references)


def do(errand: Errand, board: Any, supplies: dict[str, Any], *handed: Files) -> Files:
    """What a task runs."""
    module, _, function = errand.function.partition(":")
    # Waited for, so that all is told before the task is over.
    with observed_by(Teller(lambda progress: ray.get(board.tell.remote(progress)), errand.name)):
        given = ChainMap(dict(zip(errand.after, handed, strict=True)), cast(dict[str, Files], _Supplies(supplies)))
        return getattr(importlib.import_module(module), function)(errand.settings, given)


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
