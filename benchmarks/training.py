"""What a training costs beyond its arithmetic: the engine ray against the same steps in a plain loop, by torch alone.

`python benchmarks/training.py` takes twenty minutes of two cores that do nothing else; `--only splitfed` runs the
parts whose name begins so, `--quick` small trainings, once or twice each: whether everything runs, not how fast. Prints
a table, then one JSON object. A side is a whole training on one thread per process, in a session that has trained
before. A ratio is best over best of turns that both sides take, its interval that of the turns.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from commands import FEDSPLIT, ROOT
from exchange import started_ray
from sparse import load, printed
from sparse_coding.figure import Figure, Goal, ratio, turns
from split_learning.apart import apart
from split_learning.plain import at_once, one_after_another, side_by_side
from split_learning.problem import LENET, LINEAR, LONG_STEPS, RESNET, SHORT_STEPS, Problem, in_miniature

from fedsplit.engines.inline import Inline
from fedsplit.engines.ray import Ray
from fedsplit.federation.cohort import Task
from fedsplit.federation.messages import Opening
from fedsplit.flower import wire
from fedsplit.flower.grid.grid import StickyGrid
from fedsplit.flower.grid.layout import Layout
from fedsplit.flower.grid.release import Message
from fedsplit.flower.session import close_session
from fedsplit.protocols.base import Protocol
from fedsplit.protocols.parallel import Parallel
from fedsplit.protocols.sequential import Sequential
from fedsplit.protocols.splitfed_v1 import SplitFedV1

LONG_MILLISECONDS = 10
"""A step that takes longer is judged by the ratio, a shorter one by what is added to it."""
ADDED_MILLISECONDS = 0.7


@dataclass(frozen=True)
class Effort:
    """How much is run. starts: commands of each kind."""

    quick: bool
    repeats: int
    starts: int

    def of(self, problem: Problem) -> Problem:
        """As large as wanted."""
        return in_miniature(problem) if self.quick else problem


WHOLE, QUICK = Effort(quick=False, repeats=6, starts=3), Effort(quick=True, repeats=1, starts=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="whether everything runs, in a minute")
    parser.add_argument("--only", default="", help="run the parts whose name begins with this")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, torch {torch.__version__}, {load()}", flush=True)
    effort, figures = QUICK if wanted.quick else WHOLE, dict[str, dict[str, float]]()
    for name, part in PARTS.items():
        if name.startswith(wanted.only):
            print(f"{name}: {part.__doc__}", flush=True)
            # In miniature there is no goal to be reached.
            measured = (replace(figure, goal=None) if wanted.quick else figure for figure in part(effort))
            figures |= {f"{name} {figure.name}": printed(figure) for figure in measured}
    print(f"{time.strftime('%H:%M')}, {load()}")
    print(json.dumps(figures))


def splitfed(effort: Effort) -> Iterator[Figure]:
    """Seconds of a training by splitfed_v1 with ten clients / by a plain loop in one process"""
    for workers, goal in ((1, Goal("at most", 1.15)), (2, Goal("at most", 0.65))):
        for problem in map(effort.of, (LENET, RESNET, LINEAR)):
            engines = (Ray(workers=workers), Inline()) if workers == 1 else (Ray(workers=workers),)
            sides = [partial(problem.trained, engine, SplitFedV1) for engine in engines]
            loop, engine, *reference = turns((partial(side_by_side, problem), *sides), effort.repeats)
            judged = None if problem.model.kind == "linear" else goal
            remark = f"{shown(engine, loop)}, {problem.steps} steps"
            if problem.model.kind == "linear":
                close_session()
                floor = 1 + problem.rounds * exchanged(problem, workers, effort.repeats) / min(loop)
                remark += f"; {floor:.3g} were it the plain loop and what it exchanges"
            yield Figure(f"{problem.name}, workers: {workers}", *ratio(engine, loop), judged, remark)
            for side in reference:
                yield Figure(f"{problem.name}, inline", *ratio(side, loop), None, shown(side, loop))
    close_session()


def steps(effort: Effort) -> Iterator[Figure]:
    """Protocols that cross the cut at every step, one worker / the plain loop; where steps are short, ms added"""
    protocols: Sequence[tuple[str, type[Protocol], dict[str, object], Callable[[Problem], object]]] = (
        ("sequential", Sequential, {}, one_after_another),
        ("parallel, sync: round", Parallel, {"sync": "round"}, partial(at_once, together=False)),
        ("parallel, sync: step", Parallel, {"sync": "step"}, partial(at_once, together=True)),
    )
    for problem in map(effort.of, (LONG_STEPS, SHORT_STEPS)):
        for name, kind, settings, plainly in protocols:
            ours, inline = (partial(problem.trained, engine, kind, **settings) for engine in (Ray(workers=1), Inline()))
            together = settings.get("sync") == "step"
            with apart(problem, joint=kind is Parallel, together=together) as by_hand:
                engine, reference, two, loop = turns((ours, inline, by_hand, partial(plainly, problem)), effort.repeats)
            step = 1e3 * min(loop) / problem.steps
            long = step >= LONG_MILLISECONDS
            added, inline_added, two_added = (
                1e3 * (min(side) - min(loop)) / problem.steps for side in (engine, reference, two)
            )
            remark = (
                f"{step:.3g} ms a step, {added:.3g} ms added; {inline_added:.3g} ms on inline, "
                f"{two_added:.3g} ms by two plain processes"
            )
            if long:
                yield Figure(f"{name} / plain", *ratio(engine, loop), Goal("at most", 1.15), remark)
            else:
                each = [1e3 * (one - other) / problem.steps for one, other in zip(engine, loop, strict=True)]
                interval = min(each), max(each)
                yield Figure(f"{name}, added ms", added, interval, Goal("at most", ADDED_MILLISECONDS), remark)
    close_session()


def start(effort: Effort) -> Iterator[Figure]:
    """Seconds from the command to the first gradient, of a small scenario"""
    for engine, goal in (("inline", 2.5), ("ray", 8.0)):
        found = [first_gradient(engine) for _ in range(effort.starts)]
        yield Figure(f"simulate --engine {engine}", min(found), (min(found), max(found)), Goal("at most", goal))


PARTS: dict[str, Callable[[Effort], Iterator[Figure]]] = {"splitfed": splitfed, "steps": steps, "start": start}


def shown(above: list[float], below: list[float]) -> str:
    """The best of both sides."""
    return f"{min(above):.3g} s / {min(below):.3g} s"


def exchanged(problem: Problem, workers: int, repeats: int) -> float:
    """Seconds in which every client is sent a round's message and sends as much back, without doing anything."""
    start = problem.start
    openings = [Opening(1, client, start.client, {}) for client in range(problem.clients)]

    with started_ray(), StickyGrid("exchange:app", problem.clients, Layout(workers=workers)) as grid:

        def exchange() -> None:
            contents = [wire.pack(Task(opening, start.server, {})) for opening in openings]
            messages = [Message(content, grid.node(client), "query") for client, content in enumerate(contents)]
            for reply in grid.send_and_receive(messages):
                wire.unpack(reply.content)

        return min(turns([exchange], repeats)[0])


FIRST = '''
import os
import time
from fedsplit.models.linear import Linear


def told(gradient):
    try:
        with open(os.environ["FIRST_GRADIENT"], "x") as file:
            file.write(str(time.time()))
    except FileExistsError:
        pass


def watched(module, inputs, outputs):
    if outputs.requires_grad:
        outputs.register_hook(told)


class Timed(Linear):
    """Says when its first gradient is there."""

    def blocks(self, shape, classes):
        blocks = super().blocks(shape, classes)
        blocks["rows"].register_forward_hook(watched)
        return blocks
'''
SMALL = ("protocol.rounds=1", "attacks=[{kind: linear_inverse}]", "defenses={}", "targets.count=4")


def first_gradient(engine: str) -> float:
    """Seconds from a command until its first gradient is there."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "first_gradient.py").write_text(FIRST)
        told = folder / "first"
        settings = [*SMALL, 'model={kind: "first_gradient:Timed", width: 32}']
        words = [sys.executable, "-c", FEDSPLIT, "simulate", "scenarios/digits.yaml", "--out", str(folder / "run")]
        words += ["--engine", engine, *(word for setting in settings for word in ("--set", setting))]
        path = os.pathsep.join([name, str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
        environment = {**os.environ, "PYTHONPATH": path, "FIRST_GRADIENT": str(told)}
        began = time.time()
        subprocess.run(words, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
        return float(told.read_text()) - began


if __name__ == "__main__":
    main()
