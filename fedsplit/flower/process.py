"""The child process that runs a simulation: jobs come in on its input, one JSON line each, and events go out.

It leads a process group of its own, so an interrupt at the terminal reaches only the parent, and whatever Flower and
Ray print goes to a log. When its input ends, its whole group does. What computes is imported while Ray starts.
"""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import sys
import threading
import traceback
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, TextIO

from fedsplit.errors import EngineError, FedsplitError
from fedsplit.flower.relay import Teller
from fedsplit.flower.simulation import Event, Progress
from fedsplit.progress import observed_by

if TYPE_CHECKING:
    from fedsplit.flower.errands import Spreader
    from fedsplit.flower.order import Order
    from fedsplit.flower.server_app import Runner


def main() -> None:
    """Runs until the parent closes the input, or until the simulation itself fails."""
    folder, runner, layout = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    # Printing goes where errors go, so that the output carries events alone.
    output = Output(os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    jobs: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(jobs, folder), daemon=True).start()
    try:
        importlib.import_module(runner).run(layout, folder, partial(_serve, jobs, output))
    except Exception as error:
        output.send(Event(kind="failed", text=str(_stopped(error))))
    finally:
        # The server's thread may still wait for clients that will never come.
        os._exit(1)


class Output:
    """The way back to the parent."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, event: Event) -> None:
        """One line, at once, from any thread."""
        with self._lock:
            self._stream.write(event.model_dump_json() + "\n")

    def show(self, progress: Progress) -> None:
        """One step of a loop."""
        self.send(Event(kind="progress", progress=progress))

    def given(self, name: str) -> None:
        """What an errand gave lies in its folder."""
        self.send(Event(kind="given", text=name))


def _listen(jobs: SimpleQueue[str], folder: Path) -> None:
    for line in sys.stdin:
        jobs.put(line)
    # The parent is gone, and with it everybody who could want an answer or clean up.
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _serve(jobs: SimpleQueue[str], output: Output, run: Runner, spread: Spreader | None = None) -> None:
    from fedsplit.flower.order import Order

    while True:
        output.send(_answer(Order.model_validate_json(jobs.get()), output, run, spread))


def _answer(order: Order, output: Output, run: Runner, spread: Spreader | None) -> Event:
    try:
        if order.job is None:
            assert spread is not None, "this simulation does no errands"
            spread(order, output.given, output.show)
            return Event(kind="done")
        with observed_by(Teller(output.show)):
            return Event(kind="done", text=run(order.job).evaluation.model_dump_json())
    except FedsplitError as error:
        return Event(kind="failed", text=str(error))
    except Exception:
        return Event(kind="crashed", text=traceback.format_exc())


def _stopped(error: BaseException) -> FedsplitError:
    if isinstance(error, FedsplitError):
        return error
    while error.__cause__ is not None:
        error = error.__cause__
    remedy = "ask for fewer workers, CPUs or GPUs, or for a shorter TMPDIR"
    return EngineError(f"the simulation cannot go on ({type(error).__name__}: {error})", at="engine", remedy=remedy)


if __name__ == "__main__":
    main()
