"""Fedsplit's folder of the user cache, and entries in it that are there whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def user_cache() -> Path:
    """Where this user's programs keep what can be had again, fedsplit's part of it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "fedsplit"


def cache() -> Path:
    """Where what was computed once is kept: the environment's FEDSPLIT_CACHE, else as above."""
    named = os.environ.get("FEDSPLIT_CACHE")
    return Path(named).expanduser() if named else user_cache()


@contextmanager
def replacing(entry: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `entry` when the block ends well; what was there before is gone then.

    Whoever else makes the same entry meanwhile may win: then theirs is there.
    """
    entry.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{entry.name}.", dir=entry.parent))
    try:
        yield folder
        for file in folder.iterdir():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        shutil.rmtree(entry, ignore_errors=True)
        if entry.is_file():
            entry.unlink()
        try:
            folder.rename(entry)
        except OSError:
            if not entry.is_dir():
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
