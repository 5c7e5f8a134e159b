"""A federation on disk: the standing after the last round and the ledger's pages; safetensors and JSON, no pickle."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fedsplit.errors import EngineError
from fedsplit.federation.ledger import Ledger, Page
from fedsplit.federation.plan import State
from fedsplit.federation.trained import Standing
from fedsplit.records.exchange import CROSSED, Exchange

_META = "fedsplit"
_FORMAT = 6
"""Of a standing. One that an earlier version wrote is not gone on from."""


class Checkpoint:
    """`<cell>/checkpoint/standing-<0 or 1>.safetensors`, the last two rounds by turns, and
    `<cell>/ledger/round-<n>.safetensors`, each replaced atomically."""

    def __init__(self, cell: Path, fingerprint: str) -> None:
        """`fingerprint` says what is trained; a standing of anything else is not gone on from."""
        self.cell = cell
        self._standings = tuple(cell / "checkpoint" / f"standing-{slot}.safetensors" for slot in range(2))
        self._pages = cell / "ledger"
        self.fingerprint = fingerprint
        self._promised: tuple[int, ...] = ()
        """The rounds of the pages that belong to what was saved or loaded last."""

    def save(self, standing: Standing, page: Page | None) -> None:
        """The page first: a standing on disk promises that its pages are there."""
        if page is not None:
            self._save_page(page)
            self._promised = (*self._promised, page.round)
        tensors: dict[str, Tensor] = {}
        _put(tensors, "client", standing.client)
        _put(tensors, "server", standing.server)
        _put(tensors, "server_memory", standing.server_memory)
        _put(tensors, "common_memory", standing.common_memory)
        for client, state in standing.apart.items():
            _put(tensors, f"apart/{client}", state)
        for client, (own, copy) in standing.memories.items():
            _put(tensors, f"memory/{client}/client", own)
            _put(tensors, f"memory/{client}/server", copy)
        meta = {
            "format": _FORMAT,
            "fingerprint": self.fingerprint,
            "round": standing.round,
            "losses": standing.losses,
            "bytes": standing.bytes,
            "steps": standing.steps,
            "dropped": standing.dropped,
            "seconds": standing.seconds,
            "clients": sorted(standing.memories),
            "apart": sorted(standing.apart),
            "pages": self._promised,
        }
        _write(self._standings[standing.round % 2], tensors, json.dumps(meta))

    def load(self) -> tuple[Standing, Ledger] | None:
        """Where training stopped, or None where there is nothing (or nothing of this plan) to go on from.

        A file that is damaged is passed over for the round before it. Raises EngineError where that is damaged too.
        """
        found: list[tuple[Standing, Ledger]] = []
        damage: EngineError | None = None
        for path in (path for path in self._standings if path.exists()):
            try:
                if (one := self._load(path)) is not None:
                    found.append(one)
            except EngineError as error:
                damage = error
        if not found and damage is not None:
            raise damage
        best = max(found, key=lambda one: one[0].round, default=None)
        self._promised = () if best is None else tuple(page.round for page in best[1].pages)
        return best

    def _load(self, path: Path) -> tuple[Standing, Ledger] | None:
        """None where it is not of this training, or another one has taken a page from it."""
        tensors, meta = _read(path)
        standing = self._standing(tensors, meta)
        if standing is None:
            return None
        ledger = self._load_ledger(standing.round)
        there = {page.round for page in ledger.pages}
        return (standing, ledger) if there.issuperset(meta["pages"]) else None

    def _standing(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> Standing | None:
        if (meta.get("format"), meta["fingerprint"]) != (_FORMAT, self.fingerprint):
            return None
        memories = {
            client: (_take(tensors, f"memory/{client}/client"), _take(tensors, f"memory/{client}/server"))
            for client in meta["clients"]
        }
        return Standing(
            meta["round"],
            _take(tensors, "client"),
            _take(tensors, "server"),
            memories,
            _take(tensors, "server_memory"),
            _take(tensors, "common_memory"),
            {client: _take(tensors, f"apart/{client}") for client in meta["apart"]},
            tuple(meta["losses"]),
            (meta["bytes"][0], meta["bytes"][1]),
            meta["steps"],
            meta["dropped"],
            meta["seconds"],
        )

    def _load_ledger(self, last: int) -> Ledger:
        paths = (path for path in sorted(self._pages.glob("round-*.safetensors")) if _round(path) <= last)
        return Ledger(tuple(page for page in map(self._load_page, paths) if page is not None))

    def _save_page(self, page: Page) -> None:
        tensors: dict[str, Tensor] = {}
        _put(tensors, "broadcast", page.broadcast)
        _put(tensors, "client", page.client)
        _put(tensors, "server", page.server)
        for client, state in page.returned:
            _put(tensors, f"returned/{client}", state)
        for client, (before, after) in page.apart.items():
            _put(tensors, f"apart/{client}/before", before)
            _put(tensors, f"apart/{client}/after", after)
        for number, exchange in enumerate(page.exchanges):
            parts = {part: value for part in CROSSED if (value := getattr(exchange, part)) is not None}
            _put(tensors, f"exchange/{number}", parts)
        meta = {
            "fingerprint": self.fingerprint,
            "round": page.round,
            "returned": [client for client, _ in page.returned],
            "exchanges": [(exchange.client, exchange.step) for exchange in page.exchanges],
            "apart": sorted(page.apart),
        }
        _write(self._pages / f"round-{page.round:06d}.safetensors", tensors, json.dumps(meta))

    def _load_page(self, path: Path) -> Page | None:
        """None for what another training left in the same folder."""
        tensors, meta = _read(path)
        if meta["fingerprint"] != self.fingerprint:
            return None
        exchanges: list[Exchange] = []
        for number, (client, step) in enumerate(meta["exchanges"]):
            parts = _take(tensors, f"exchange/{number}")
            crossed = (parts["rows"], parts["smashed"], parts["gradient"])
            apart = (parts.get("labels"), parts.get("head_gradient"))
            exchanges.append(Exchange(meta["round"], client, step, *crossed, *apart))
        return Page(
            meta["round"],
            _take(tensors, "broadcast"),
            _take(tensors, "client"),
            _take(tensors, "server"),
            tuple((client, _take(tensors, f"returned/{client}")) for client in meta["returned"]),
            tuple(exchanges),
            {
                client: (_take(tensors, f"apart/{client}/before"), _take(tensors, f"apart/{client}/after"))
                for client in meta["apart"]
            },
        )


def _round(path: Path) -> int:
    return int(path.stem.removeprefix("round-"))


def _put(tensors: dict[str, Tensor], prefix: str, state: Mapping[str, Tensor]) -> None:
    tensors.update({f"{prefix}:{name}": value.contiguous().clone() for name, value in state.items()})


def _take(tensors: Mapping[str, Tensor], prefix: str) -> State:
    start = f"{prefix}:"
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def _write(path: Path, tensors: dict[str, Tensor], meta: str) -> None:
    temporary = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(save(tensors, metadata={_META: meta}))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        remedy = "free some space or choose another --out; the same command goes on from the last round"
        raise EngineError(f"cannot be written ({error.strerror})", at=str(path), remedy=remedy) from error


def _sync(folder: Path) -> None:
    """Puts the folder itself on disk: a rename is in it, not in the file."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, json.loads(file.metadata()[_META])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        remedy = "delete the cell's folder to train it again"
        raise EngineError(f"is damaged ({error})", at=str(path), remedy=remedy) from error
