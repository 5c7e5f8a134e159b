"""The user's end of the child process that runs Flower: starts it once, gives it jobs, and ends it whatever happens.

Imports nothing that computes: the child starts while that is imported here.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fedsplit.errors import EngineError
from fedsplit.flower.relay import Shower
from fedsplit.flower.simulation import Event, Simulation
from fedsplit.flower.temporary import new_folder

if TYPE_CHECKING:
    from fedsplit.flower.order import Order

_SETTINGS = {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
"""No usage reports; and workers, which do all of the work, step back for nobody (Ray would have them do so)."""


class Session:
    """A running simulation. Starting one takes seconds, so it serves one training after another."""

    def __init__(self, simulation: Simulation) -> None:
        """Starts the child process and returns at once."""
        self.folder = new_folder("fedsplit-")
        self._log = self.folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "fedsplit.flower.process"),
                    *(str(self.folder), simulation.runner, simulation.model_dump_json()),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                env={**os.environ, **_SETTINGS, "PYTHONPATH": _python_path()},
            )

    def follow(self, order: Order) -> Iterator[Event]:
        """Gives an order and yields what becomes of it: errands as they are done, and at last that all is done.

        Raises EngineError where a client, an errand or the simulation fails. The session is then over.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        shower = Shower()
        try:
            # Where the child has ended already, it may have said why.
            with suppress(BrokenPipeError):
                self._process.stdin.write(order.model_dump_json() + "\n")
                self._process.stdin.flush()
            for line in self._process.stdout:
                event = Event.model_validate_json(line)
                match event.kind:
                    case "progress":
                        assert event.progress is not None
                        shower.show(event.progress)
                    case "failed":
                        raise EngineError(event.text)
                    case "crashed":
                        raise RuntimeError(event.text)
                    case "given":
                        yield event
                    case "done":
                        yield event
                        return
        finally:
            shower.close()
        raise EngineError(f"the simulation ended without a word ({self._last_words()})", at="engine")

    def close(self) -> None:
        """Ends the child process and all that it started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            # Closing writes what a child that is gone has not taken.
            with suppress(BrokenPipeError):
                pipe.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _last_words(self) -> str:
        # Who clears the temporary disk may have taken the log along.
        lines = self._log.read_text(errors="replace").strip().splitlines() if self._log.exists() else []
        return lines[-1] if lines else f"exit code {self._process.wait()}"


_running: dict[tuple[Simulation, str], Session] = {}
"""At most one, by what it was started with."""


def session(simulation: Simulation) -> Session:
    """The running session if it is laid out like this and can import the same modules, else a new one."""
    key = (simulation, _python_path())
    if key not in _running:
        close_session()
        _running[key] = Session(simulation)
    return _running[key]


@atexit.register
def close_session() -> None:
    """Ends whatever runs."""
    while _running:
        _running.popitem()[1].close()


def require_flower(kind: str) -> None:
    """Raises EngineError where Flower or Ray is not installed."""
    if importlib.util.find_spec("flwr") is None or importlib.util.find_spec("ray") is None:
        remedy = "pip install 'fedsplit[flower]', or use engine: {kind: inline}"
        raise EngineError("Flower or Ray is not installed", at="engine", value=kind, remedy=remedy)


def _python_path() -> str:
    # Plug-ins may lie in a folder that only this process was told of; an empty entry means the folder it is in.
    return os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
