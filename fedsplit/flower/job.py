"""One training as it travels between processes: settings as JSON, tensors as files that workers map into memory."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import PositiveInt
from safetensors.torch import load_file, save_file

from fedsplit.component import Settings
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.ledger import Recording
from fedsplit.federation.plan import Plan, State
from fedsplit.federation.roles import FederationData
from fedsplit.federation.trained import Standing
from fedsplit.protocols.base import AnyProtocol
from fedsplit.records.images import Holding, Images

Stage = Literal["private", "prepared"]
"""Rows as the client owns them, or after the defense's augmentation."""

_START, _CLIENT, _PUBLIC, _TEST = "start", "client", "public", "test"
_HOLDING = ("pixels", "labels", "weights", "rows", "watched")
_IMAGES = ("pixels", "labels", "groups")


class Job(Settings):
    """What the server and every client are told; private rows are in `folder`, and no message carries them."""

    protocol: AnyProtocol
    plan: Plan
    recording: Recording
    class_names: tuple[str, ...]
    clients: PositiveInt
    folder: Path
    """Holds the parties' rows and the first standing. A worker that does not see it is sent what it needs."""
    cell: Path
    """Where checkpoint and ledger are kept."""
    fingerprint: str

    @property
    def checkpoint(self) -> Checkpoint:
        """The training's own checkpoint, through which it also hands its result back."""
        return Checkpoint(self.cell, self.fingerprint)

    def write(self, start: Standing, data: FederationData) -> None:
        """Puts everything that the parties hold before training into the folder."""
        Checkpoint(self.folder / _START, self.fingerprint).save(start, None)
        _save(self.folder / _CLIENT, {name: value.clone() for name, value in start.client.items()})
        _save(self.folder / _PUBLIC, _parts(data.public, _IMAGES))
        _save(self.folder / _TEST, _parts(data.test, _IMAGES))
        for client, holding in enumerate(data.holdings):
            self.write_holding("private", client, holding)

    def start(self) -> Standing:
        """The standing before the first round; for the server alone."""
        found = Checkpoint(self.folder / _START, self.fingerprint).load()
        assert found is not None, f"{self.folder} holds no job"
        return found[0]

    def test(self) -> Images:
        """The test rows; for the server alone."""
        return self._images(_TEST)

    def start_at_client(self) -> State:
        """What every client holds before the first round."""
        return self._known(_CLIENT)

    def public(self) -> Images:
        """The public rows."""
        return self._images(_PUBLIC)

    def holding(self, stage: Stage, client: int) -> Holding | None:
        """A client's rows, mapped into memory where they are on disk; None where they are not there yet."""
        tensors = self._found(f"{stage}-{client}")
        return None if tensors is None else Holding(**tensors)

    def write_holding(self, stage: Stage, client: int, holding: Holding) -> None:
        """Keeps a client's rows for whichever worker needs them next."""
        self._keep(f"{stage}-{client}", _parts(holding, _HOLDING))

    @property
    def visible(self) -> bool:
        """Whether this machine sees the folder."""
        return (self.folder / _PUBLIC).exists()

    def equipment(self, clients: Iterable[int]) -> dict[str, State]:
        """What a machine needs that does not see the folder, to host these clients; by file name."""
        return {name: self._known(name) for name in (_CLIENT, _PUBLIC, *(f"private-{client}" for client in clients))}

    def accept(self, equipment: Mapping[str, State]) -> None:
        """Keeps in this process what a machine was sent that does not see the folder, and forgets all other jobs."""
        for path in [path for path in _elsewhere if path.parent != self.folder]:
            del _elsewhere[path]
        _elsewhere.update({self.folder / name: tensors for name, tensors in equipment.items()})

    def _images(self, name: str) -> Images:
        # Copied out of the map: torch's own memory is aligned, and sums may depend on alignment.
        pixels, labels, groups = (self._known(name)[part].clone() for part in _IMAGES)
        return Images(pixels, labels, groups, self.class_names)

    def _known(self, name: str) -> State:
        tensors = self._found(name)
        assert tensors is not None, f"{self.folder} holds no {name}"
        return tensors

    def _found(self, name: str) -> State | None:
        path = self.folder / name
        if path in _elsewhere:
            return _elsewhere[path]
        return load_file(path) if path.exists() else None

    def _keep(self, name: str, tensors: State) -> None:
        path = self.folder / name
        if self.folder.exists():
            _save(path, tensors)
        else:
            _elsewhere[path] = tensors


_elsewhere: dict[Path, State] = {}
"""Files of a job whose folder this machine does not see, by the path they have where it does."""


def _parts(record: Holding | Images, names: tuple[str, ...]) -> State:
    # Copies, since safetensors refuses tensors that share storage.
    return {name: getattr(record, name).clone().contiguous() for name in names}


def _save(path: Path, tensors: State) -> None:
    # Renamed when complete, so that a worker that looks for the file sees all of it or nothing.
    partial = path.with_suffix(f".{os.getpid()}")
    save_file(tensors, partial)
    partial.replace(path)
