"""What is on disk only while a simulation runs."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from fedsplit.errors import EngineError

_REMEDY = "free some space there, or set TMPDIR to a folder that has more"


def new_folder(prefix: str, parent: Path | None = None) -> Path:
    """One that nobody else has; where TMPDIR says, unless in `parent`."""
    with writing(parent or "TMPDIR"):
        return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))


@contextmanager
def writing(at: Path | str) -> Iterator[None]:
    """Whatever cannot be written inside becomes one EngineError; `at` is named where the system names no file."""
    try:
        yield
    except EngineError as error:
        # A checkpoint's, whose own remedy is meant for the folder of a run.
        raise EngineError(error.reason, at=error.at, remedy=_REMEDY) from error
    except (OSError, SafetensorError) as error:
        at = getattr(error, "filename", None) or at
        reason = getattr(error, "strerror", None) or error
        raise EngineError(f"cannot be written ({reason})", at=str(at), remedy=_REMEDY) from error
