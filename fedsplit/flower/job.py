"""One training as it travels between processes: settings as JSON, tensors as files that workers map into memory."""

import os
from pathlib import Path
from typing import Literal

from pydantic import PositiveInt
from safetensors.torch import load_file, save_file

from fedsplit.component import Settings
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.ledger import Recording
from fedsplit.federation.plan import Plan
from fedsplit.federation.roles import FederationData
from fedsplit.federation.trained import Standing
from fedsplit.protocols.base import AnyProtocol
from fedsplit.records.images import Holding, Images

Stage = Literal["private", "prepared"]
"""Rows as the client owns them, or after the defense's augmentation."""

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
    """Holds the parties' rows and the first standing. Every worker must see it under this name."""
    cell: Path
    """Where checkpoint and ledger are kept."""
    fingerprint: str

    @property
    def checkpoint(self) -> Checkpoint:
        """The training's own checkpoint, through which it also hands its result back."""
        return Checkpoint(self.cell, self.fingerprint)

    def write(self, start: Standing, data: FederationData) -> None:
        """Puts everything that the parties hold before training into the folder."""
        self._start.save(start, None)
        _save(self.folder / "public", data.public, _IMAGES)
        _save(self.folder / "test", data.test, _IMAGES)
        for client, holding in enumerate(data.holdings):
            self.write_holding("private", client, holding)

    def start(self) -> Standing:
        """The standing before the first round."""
        found = self._start.load()
        assert found is not None, f"{self.folder} holds no job"
        return found[0]

    def public(self) -> Images:
        """The public rows."""
        return _images(self.folder / "public", self.class_names)

    def test(self) -> Images:
        """The test rows."""
        return _images(self.folder / "test", self.class_names)

    def holding(self, stage: Stage, client: int) -> Holding | None:
        """A client's rows, mapped into memory; None where they are not there yet."""
        path = self._holding(stage, client)
        return Holding(**load_file(path)) if path.exists() else None

    def write_holding(self, stage: Stage, client: int, holding: Holding) -> None:
        """Keeps a client's rows for whichever worker needs them next."""
        _save(self._holding(stage, client), holding, _HOLDING)

    @property
    def _start(self) -> Checkpoint:
        return Checkpoint(self.folder / "start", self.fingerprint)

    def _holding(self, stage: Stage, client: int) -> Path:
        return self.folder / f"{stage}-{client}"


def _images(path: Path, class_names: tuple[str, ...]) -> Images:
    # Copied out of the map: torch's own memory is aligned, and sums may depend on alignment.
    pixels, labels, groups = (load_file(path)[name].clone() for name in _IMAGES)
    return Images(pixels, labels, groups, class_names)


def _save(path: Path, record: Holding | Images, names: tuple[str, ...]) -> None:
    # Copies, since safetensors refuses tensors that share storage; renamed when complete, so that a worker that
    # looks for the file sees all of it or nothing.
    partial = path.with_suffix(f".{os.getpid()}")
    save_file({name: getattr(record, name).clone().contiguous() for name in names}, partial)
    partial.replace(path)
