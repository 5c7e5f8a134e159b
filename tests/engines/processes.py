"""Finds every process that inherited a mark, however it was started and whoever its parent is now."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

MARK = "FEDSPLIT_TEST_MARK"


def marked_processes(mark: str) -> list[str]:
    """The command lines of the living processes with this mark in their environment."""
    return list(_marked(mark).values())


def kill_marked(mark: str, seconds: float) -> list[str]:
    """Ends them, and whatever they start meanwhile; those that are still alive after so many seconds."""
    deadline = time.monotonic() + seconds
    while (left := _marked(mark)) and time.monotonic() < deadline:
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)
    return list(left.values())


def wait_until_gone(mark: str, seconds: float) -> list[str]:
    """The marked processes that are still alive after so many seconds; usually none, and then at once."""
    deadline = time.monotonic() + seconds
    while (left := marked_processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _marked(mark: str) -> dict[int, str]:
    found: dict[int, str] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            # A dead process that nobody has waited for has neither environment nor command line.
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found[int(process.name)] = (process / "cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone by now, or another user's
            continue
    return found
