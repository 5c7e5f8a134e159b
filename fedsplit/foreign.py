"""Files that are programs: what they hold, for who trusts them."""

import importlib
import io
import pickle
import sys
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import torch

_ZIP = b"PK"
_OF_TORCHSCRIPT = "constants.pkl"


def loaded(content: bytes, repository: Path | None) -> object:
    """What a file of TorchScript, of `torch.save` or of `pickle` holds, on the CPU. Runs what the file says, with
    modules from the folder, and raises whatever that raises."""
    with _found_in(repository):
        if not content.startswith(_ZIP):
            return pickle.loads(content)
        if _is_torchscript(content):
            with warnings.catch_warnings():
                # Files of it stay around after torch has ceased to write them.
                warnings.simplefilter("ignore", DeprecationWarning)
                return torch.jit.load(io.BytesIO(content), map_location="cpu")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)


def _is_torchscript(content: bytes) -> bool:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return any(Path(name).name == _OF_TORCHSCRIPT for name in archive.namelist())


@contextmanager
def _found_in(repository: Path | None) -> Iterator[None]:
    """Imports find the folder's modules first, and nobody finds them afterwards: two repositories may call different
    modules by the same name, and so may what is installed."""
    if repository is None:
        yield
        return
    names = {path.stem for path in repository.iterdir() if path.suffix == ".py" or path.is_dir()}
    before = _taken_out(names)
    sys.path.insert(0, str(repository))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(repository))
        _taken_out(names)
        sys.modules.update(before)


def _taken_out(names: set[str]) -> dict[str, ModuleType]:
    found = [name for name in sys.modules if name.partition(".")[0] in names]
    return {name: sys.modules.pop(name) for name in found}
