"""One training as it travels between processes: settings as JSON, tensors as files that workers map into memory."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import torch
from pydantic import PositiveInt
from safetensors.torch import load_file, save_file

from fedsplit.component import Settings
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.ledger import Recording
from fedsplit.federation.plan import Plan, State
from fedsplit.federation.roles import FederationData
from fedsplit.federation.trained import Standing
from fedsplit.flower.temporary import writing
from fedsplit.protocols.base import AnyProtocol
from fedsplit.records.images import Holding, Images

_START, _CLIENT, _PUBLIC, _TEST, _PRIVATE = "start", "client", "public", "test", "private"
_HOLDING = ("pixels", "labels", "weights", "rows", "watched")
_IMAGES = ("pixels", "labels", "groups")
_BOUNDS = "bounds"
"""Beside the rows of all clients one after the other: where each client's begin, and where the last one's end."""


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
        with writing(self.folder):
            Checkpoint(self.folder / _START, self.fingerprint).save(replace(start, client={}), None)
        _save(self.folder / _CLIENT, {name: value.clone() for name, value in start.client.items()})
        _save(self.folder / _PUBLIC, _parts(data.public, _IMAGES))
        _save(self.folder / _TEST, _parts(data.test, _IMAGES))
        _save(self.folder / _PRIVATE, _joined(data.holdings))

    def start(self) -> Standing:
        """The standing before the first round; for the server alone."""
        found = Checkpoint(self.folder / _START, self.fingerprint).load()
        assert found is not None, f"{self.folder} holds no job"
        return replace(found[0], client=self.start_at_client())

    def test(self) -> Images:
        """The test rows; for the server alone."""
        return self._images(_TEST)

    def start_at_client(self) -> State:
        """What every client holds before the first round."""
        return self._known(_CLIENT)

    def public(self) -> Images:
        """The public rows."""
        return self._images(_PUBLIC)

    def private(self, client: int) -> Holding | None:
        """The rows that a client owns, mapped into memory where they are on disk; None where it lives elsewhere."""
        if (alone := _elsewhere.get(self.folder / _of(_PRIVATE, client))) is not None:
            return Holding(**alone)
        joined = self._found(_PRIVATE)
        if joined is None:
            return None
        begin, end = joined[_BOUNDS][client : client + 2].tolist()
        return Holding(**{name: joined[name][begin:end] for name in _HOLDING})

    def prepared(self, client: int) -> Holding | None:
        """A client's rows after the defense's augmentation; None where no worker has kept them yet."""
        tensors = self._found(_of("prepared", client))
        return None if tensors is None else Holding(**tensors)

    def keep_prepared(self, client: int, holding: Holding) -> None:
        """Keeps a client's augmented rows for whichever worker needs them next."""
        self._keep(_of("prepared", client), _parts(holding, _HOLDING))

    @property
    def visible(self) -> bool:
        """Whether this machine sees the folder."""
        return (self.folder / _PUBLIC).exists()

    def equipment(self, clients: Iterable[int]) -> dict[str, State]:
        """What a machine needs that does not see the folder, to host these clients; by name."""
        own: dict[str, State] = {}
        for client in clients:
            holding = self.private(client)
            assert holding is not None, f"{self.folder} holds no rows of client {client}"
            own[_of(_PRIVATE, client)] = _parts(holding, _HOLDING)
        return {name: self._known(name) for name in (_CLIENT, _PUBLIC)} | own

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


def _of(name: str, client: int) -> str:
    return f"{name}-{client}"


def _joined(holdings: Sequence[Holding]) -> State:
    """All rows in one file, of which a worker reads those of its clients: a file for each would take a millisecond."""
    rows = {name: torch.cat([getattr(holding, name) for holding in holdings]) for name in _HOLDING}
    return {**rows, _BOUNDS: torch.tensor(list(accumulate(map(len, holdings), initial=0)))}


def _parts(record: Holding | Images, names: tuple[str, ...]) -> State:
    # Copies, since safetensors refuses tensors that share storage.
    return {name: getattr(record, name).clone().contiguous() for name in names}


def _save(path: Path, tensors: State) -> None:
    # Renamed when complete, so that a worker that looks for the file sees all of it or nothing.
    partial = path.with_suffix(f".{os.getpid()}")
    with writing(path):
        save_file(tensors, partial)
        partial.replace(path)
