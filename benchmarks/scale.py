"""What clients cost that have nothing to do: 10,000 of them, of whom a round draws 100, against 100 who all take part.

`python benchmarks/scale.py` takes some minutes of two cores that do nothing else; `--quick` 200 clients, of whom a
round draws 10: whether everything runs, not how fast. Prints a table, then one JSON object. A ratio is best over best
of rounds, its interval that of rounds with the same number; the first round of a training is apart. Per idle client is
the difference of both trainings over that of their clients; memory is the proportional set size of all processes.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from sparse import load, printed
from sparse_coding.figure import Figure, Goal, ratio

from fedsplit.defenses.none import Undefended
from fedsplit.engines.base import Engine
from fedsplit.engines.inline import Inline
from fedsplit.engines.ray import Ray
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.ledger import Recording
from fedsplit.federation.optimizer import Adam
from fedsplit.federation.plan import Plan, state_of
from fedsplit.federation.roles import FederationData
from fedsplit.federation.trained import Standing
from fedsplit.flower.session import close_session
from fedsplit.models.linear import Linear
from fedsplit.progress import observed_by
from fedsplit.protocols.base import Protocol
from fedsplit.protocols.parallel import Parallel
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.records.images import Holding, Images, Shape
from fedsplit.training import Training

SHAPE: Shape = (1, 8, 8)
CLASSES = 2
ROWS = 16
"""Of each client."""
BATCH = 8
PROTOCOLS: tuple[type[Protocol], ...] = (SplitFedV1, Parallel)
KIB = 1024


@dataclass(frozen=True)
class Effort:
    """clients: of the large federation. drawn: in a round, and clients of the small federation. turns: trainings."""

    quick: bool
    clients: int
    drawn: int
    rounds: int
    turns: int


WHOLE = Effort(quick=False, clients=10_000, drawn=100, rounds=6, turns=2)
QUICK = Effort(quick=True, clients=200, drawn=10, rounds=3, turns=1)


@dataclass(frozen=True)
class Measured:
    """One training. rounds: seconds of each. apart: seconds before the first and after the last. memory: bytes of all
    processes when it was over."""

    rounds: list[float]
    apart: float
    memory: int


class Clock:
    """Observes a training: notes when each round ends."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def started(self, description: str, total: int) -> object:
        """A loop begins."""
        self.times.append(time.perf_counter())
        return description, total

    def advanced(self, loop: object) -> None:
        """A round has ended."""
        del loop
        self.times.append(time.perf_counter())

    def finished(self, loop: object) -> None:
        """All rounds have."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="whether everything runs, in a minute")
    parser.add_argument("--only", default="", help="measure the engines whose name begins with this")
    wanted = parser.parse_args()
    effort = QUICK if wanted.quick else WHOLE
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, torch {torch.__version__}, {load()}", flush=True)
    figures: dict[str, dict[str, float]] = {}
    for figure in measured(effort, wanted.only):
        figures[figure.name] = printed(replace(figure, goal=None) if effort.quick else figure)
    print(f"{time.strftime('%H:%M')}, {load()}")
    print(json.dumps(figures))


def measured(effort: Effort, only: str) -> Iterator[Figure]:
    few, many = federation(effort.drawn), federation(effort.clients)
    idle = effort.clients - effort.drawn
    engines = (Inline(), Ray(workers=2))
    for engine in (engine for engine in engines if engine.kind.startswith(only)):
        small: list[list[Measured]] = []
        large: list[list[Measured]] = []
        for _ in range(effort.turns):
            small.append(session(engine, few, effort))
            large.append(session(engine, many, effort))
        for place, protocol in enumerate(PROTOCOLS):
            name = f"{engine.kind} {protocol.__name__.lower()}"
            above, below = ([turn[place] for turn in side] for side in (large, small))
            long, short = ([second for one in side for second in one.rounds[1:]] for side in (above, below))
            yield Figure(f"{name}, round", *ratio(long, short), Goal("at most", 1.3), shown(long, short))
            long, short = ([one.rounds[0] for one in side] for side in (above, below))
            yield Figure(f"{name}, first round", *ratio(long, short), None, shown(long, short))
            pairs = list(zip(above, below, strict=True))
            apart = [1e3 * (one.apart - other.apart) / idle for one, other in pairs]
            remark = "set-up and evaluation"
            yield Figure(f"{name}, ms per idle", min(apart), (min(apart), max(apart)), None, remark)
            held = [(one.memory - other.memory) / idle / KIB for one, other in pairs]
            # This process holds the rows of both federations all the time, so they are in no difference.
            rows = sum(value.nbytes for value in vars(many.holdings[0]).values())
            remark = f"beyond {rows / KIB:.3g} KiB of rows"
            yield Figure(f"{name}, KiB per idle", min(held), (min(held), max(held)), Goal("at most", 64), remark)


def shown(above: list[float], below: list[float]) -> str:
    """The best of both sides."""
    return f"{1e3 * min(above):.3g} ms / {1e3 * min(below):.3g} ms"


def federation(clients: int) -> FederationData:
    """So many clients with a few random images each."""
    test = images(64)
    holdings = []
    for _ in range(clients):
        own = images(ROWS)
        rows = torch.arange(ROWS)
        holdings.append(Holding(own.pixels, own.labels, torch.ones(ROWS), rows, rows < 0))
    return FederationData(tuple(holdings), visitors=(), public=test, test=test)


def images(count: int) -> Images:
    """Random ones."""
    names = tuple(str(label) for label in range(CLASSES))
    return Images(torch.rand(count, *SHAPE), torch.randint(CLASSES, (count,)), torch.arange(count), names)


def session(engine: Engine, data: FederationData, effort: Effort) -> list[Measured]:
    """A training by each protocol, in a session that has trained before."""
    training(engine, SplitFedV1, data, replace(effort, rounds=1))
    found = [training(engine, protocol, data, effort) for protocol in PROTOCOLS]
    close_session()
    return found


def training(engine: Engine, kind: type[Protocol], data: FederationData, effort: Effort) -> Measured:
    """A whole training, into a folder that is thrown away."""
    share = effort.drawn / len(data.holdings)
    protocol = kind.model_validate({"rounds": effort.rounds, "batch_size": BATCH, "participation": share})
    plan = Plan(
        model=Linear(width=8),
        cut="rows",
        defense=Undefended(),
        optimizer=Adam(state="reset"),
        shape=SHAPE,
        classes=CLASSES,
        seed=0,
    )
    segments = plan.segments()
    start = Standing(0, state_of(segments.home.whole), state_of(segments.server))
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, observed_by(clock):
        began = time.perf_counter()
        engine.train(Training(protocol, plan, start, data, Recording(), Checkpoint(Path(folder), "benchmark")))
        seconds = time.perf_counter() - began
    rounds = [after - before for before, after in pairwise(clock.times)]
    return Measured(rounds, seconds - sum(rounds), held())


def held() -> int:
    """Bytes of memory of this process and of all that it started; what several of them share counts once."""
    return sum(proportional(process) for process in family(os.getpid()))


def family(process: int) -> Iterator[int]:
    """This process and its descendants."""
    yield process
    with suppress(OSError):  # one that has ended meanwhile
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def proportional(process: int) -> int:
    """Its proportional set size."""
    with suppress(OSError):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        return next((int(line.split()[1]) * KIB for line in lines if line.startswith("Pss:")), 0)
    return 0


if __name__ == "__main__":
    main()
