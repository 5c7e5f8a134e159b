"""How fast sparse codes are found: against torch's own convolution, and against what is published, on real images.

`python benchmarks/sparse.py` needs the images (FEDSPLIT_DATA), and some twenty minutes of two cores that do nothing
else; `--only speed` runs the parts whose name begins so, `--quick` two images with few iterations: whether everything
runs, not how fast. Prints a table, then one JSON object. A ratio of times is best over best of turns that the two sides
take, its interval that of the turns; iterations are a mean over samples, with the samples' least and most.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from sparse_coding.figure import Figure, Goal, enough, ratio, seconds, turns
from sparse_coding.problems import KERNEL, Problem, problems, scans
from sparse_coding.published import accelerated, dynamics
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from fedsplit.defenses.base import Defense
from fedsplit.defenses.conv_reference import ConvReference
from fedsplit.defenses.sca import Sca
from fedsplit.errors import FedsplitError
from fedsplit.federation.messages import CutGradient
from fedsplit.federation.optimizer import Adam
from fedsplit.federation.plan import Plan
from fedsplit.federation.roles import Client, HonestServer
from fedsplit.layers.sparse_coding import GradientKind
from fedsplit.models.linear import Linear
from fedsplit.numerics.fista import Fista
from fedsplit.numerics.lasso import Lasso, Solver
from fedsplit.numerics.spectral import Spectral
from fedsplit.records.images import Holding
from fedsplit.seeding import Seeds

GAP = 1e-3


@dataclass(frozen=True)
class Effort:
    """How much is run. iterations: where their number does not matter. at_most: to the gap. steps: as published."""

    quick: bool
    repeats: int
    iterations: int
    at_most: int
    steps: int
    batch: int


WHOLE = Effort(quick=False, repeats=9, iterations=100, at_most=1000, steps=500, batch=64)
QUICK = Effort(quick=True, repeats=2, iterations=10, at_most=20, steps=20, batch=4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="whether everything runs, in seconds")
    parser.add_argument("--only", default="", help="run the parts whose name begins with this")
    parser.add_argument("--threads", type=int, default=2, help="of torch; the goals are set for two")
    wanted = parser.parse_args()
    os.environ["KINETO_LOG_LEVEL"] = "6"  # The profiler only counts bytes here, and has nothing to say.
    torch.set_num_threads(wanted.threads)
    print(
        f"{time.strftime('%Y-%m-%d %H:%M')}, torch {torch.__version__}, {wanted.threads} threads, {load()}", flush=True
    )
    effort, figures = QUICK if wanted.quick else WHOLE, dict[str, dict[str, float]]()
    try:
        for name, part in PARTS.items():
            if name.startswith(wanted.only):
                print(f"{name}: {part.__doc__}", flush=True)
                # In miniature there is no goal to be reached.
                measured = (replace(figure, goal=None) if wanted.quick else figure for figure in part(effort))
                figures |= {f"{name} {figure.name}": printed(figure) for figure in measured}
    except FedsplitError as error:
        sys.exit(f"benchmarks/sparse.py: {error}")
    print(f"{time.strftime('%H:%M')}, {load()}")
    print(json.dumps(figures))


def printed(figure: Figure) -> dict[str, float]:
    """Prints a line of the table; returns what the JSON object tells of it."""
    print(figure, flush=True)
    least, most = figure.interval
    return {name: float(f"{value:.4g}") for name, value in (("ratio", figure.value), ("least", least), ("most", most))}


def load() -> str:
    """How many processes want to run: this one included, above the number of cores times are noise."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


@torch.no_grad()
def floor(effort: Effort) -> Iterator[Figure]:
    """Multiply-adds per second of iterations, counted as the layer is shaped / those of torch's conv2d of that shape"""
    for lambda_ in (0.5, 0.1):
        for problem in problems(lambda_, effort.quick):
            layer = problem.layer(Fista(0.0, effort.iterations))
            plain = (problem.images, layer.atoms)
            turned = tuple(tensor.contiguous(memory_format=torch.channels_last) for tensor in plain)
            convolutions = [partial(F.conv2d, *tensors, padding=KERNEL // 2) for tensors in (plain, turned)]
            ours, *floors = turns((partial(layer, problem.images), *convolutions), effort.repeats)
            best = min(floors, key=min)
            share, interval = ratio(best, ours, factor=2 * effort.iterations)
            rate = problem.images.numel() * layer.atoms[:, 0].numel() / min(best) / 1e9
            remark = f"{1e3 * min(ours) / effort.iterations:.3g} ms an iteration; conv2d {rate:.3g}e9 multiply-adds/s"
            yield Figure(problem.name, share, interval, Goal("at least", 0.7), remark)


@torch.no_grad()
def iterations(effort: Effort) -> Iterator[Figure]:
    """Mean iterations, of two convolutions each, to a relative duality gap of 1e-3"""
    for lambda_ in (0.1, 0.25, 0.5):
        for problem in problems(lambda_, effort.quick):
            lasso = problem.layer(Fista()).lasso(problem.images)
            ours = reached_by(Fista(GAP, effort.at_most), lasso)
            needed = {
                "ours": ours,
                "spectral": reached_by(Spectral(GAP, effort.at_most), lasso),
                "FISTA with restart": accelerated(lasso, GAP, effort.at_most, restart=True),
                "FISTA": accelerated(lasso, GAP, effort.at_most, restart=False),
            }
            remark = ", ".join(f"{name} {told(each, effort.at_most)}" for name, each in needed.items())
            spent = ours.clamp(max=effort.at_most)
            yield Figure(problem.name, float(spent.mean()), (float(spent.min()), float(spent.max())), None, remark)


def reached_by(solver: Solver, lasso: Lasso) -> Tensor:
    """Iterations to the gap, (n,), infinite for samples that did not get there."""
    solution = solver.solve(lasso)
    return torch.where(solution.gap <= GAP, solution.iterations.float(), torch.inf)


def told(needed: Tensor, at_most: int) -> str:
    """The mean over samples, where every sample got there."""
    missing = int(needed.isinf().sum())
    return f"not in {at_most} for {missing} of {len(needed)}" if missing else f"{needed.mean():.0f}"


@torch.no_grad()
def speed(effort: Effort) -> Iterator[Figure]:
    """Seconds of 500 published steps / ours, until the mean objective is as low"""
    for lambda_ in (0.5, 0.1):
        for problem in problems(lambda_, effort.quick):
            layer = problem.layer(Fista())
            images, atoms = layer.standardised(problem.images), layer.atoms
            published = partial(dynamics, images, atoms, lambda_, effort.steps)
            began = time.perf_counter()
            codes = published()
            theirs, ours = [time.perf_counter() - began], []
            count = iterations_to(problem, float(layer.objective(problem.images, codes).mean()))
            layer.solver = Fista(0.0, count)
            call = partial(layer, problem.images)
            calls = enough(call)
            while len(ours) < 2 or (len(ours) < effort.repeats and sum(theirs) < 60):
                if ours:
                    theirs.append(seconds(published))
                ours.append(seconds(call, calls))
            gaps = layer.lasso(problem.images).gap(codes).mean(), layer.solve(problem.images).gap.mean()
            remark = (
                f"{min(theirs):.3g} s, gap {gaps[0]:.1e} / {1e3 * min(ours):.3g} ms, {count} iterations, {gaps[1]:.1e}"
            )
            yield Figure(problem.name, *ratio(theirs, ours), Goal("at least", problem.faster), remark)


def iterations_to(problem: Problem, objective: float) -> int:
    """So many iterations, and not one less, have a mean objective as low."""

    def reached(count: int) -> bool:
        layer = problem.layer(Fista(0.0, count))
        return float(layer.objective(problem.images, layer(problem.images)).mean()) <= objective

    short, count = 0, 1
    while not reached(count):
        short, count = count, 2 * count
    while count - short > 1:
        middle = (short + count) // 2
        short, count = (short, middle) if reached(middle) else (middle, count)
    return count


def training(effort: Effort) -> Iterator[Figure]:
    """Seconds of a training step of SCA / of the same network with convolutions, on radiographs"""
    # Of all classes: one alone is learned at the first step, and then there is no gradient through the codes.
    rows = torch.randperm(len(everything := scans()), generator=Seeds(0)("rows"))[: effort.batch]
    images = everything.at(rows)
    batch = Holding(images.pixels, images.labels, torch.ones(len(rows)), rows, rows < 0)
    shape = "x".join(map(str, images.pixels.shape))
    whole, alone = zip(*(steps(defense, batch) for defense in (Sca(), ConvReference())), strict=True)
    for name, sides in (("client and server", whole), ("client alone", alone)):
        sca, reference = turns(sides, effort.repeats)
        goal = Goal("at most", 8) if sides is whole else None
        remark = f"{1e3 * min(sca):.3g} ms / {1e3 * min(reference):.3g} ms"
        yield Figure(f"{shape}, {name}", *ratio(sca, reference), goal, remark)


def steps(defense: Defense, batch: Holding) -> tuple[Callable[[], object], Callable[[], object]]:
    """A whole split training step (both segments forward and backward, Adam, the defense's own update), and the
    client's part of it, with a gradient that the server gave before."""
    plan = Plan(
        model=Linear(width=100), cut="rows", defense=defense, optimizer=Adam(), shape=(1, 64, 64), classes=6, seed=0
    )
    segments = plan.segments()
    client = Client(plan, segments.home, batch, {}, Seeds(0)("defense"))
    server = HonestServer(plan, segments.server, {}, torch.Generator())

    def answered() -> CutGradient:
        answer = server.answer(client.send(batch))
        assert isinstance(answer, CutGradient)
        server.move()
        return answer

    answer = answered()

    def whole() -> None:
        client.receive(answered())

    def alone() -> None:
        client.send(batch)
        client.receive(answer)

    return whole, alone


def memory(effort: Effort) -> Iterator[Figure]:
    """Peak bytes of torch's allocator, forward and backward: implicit / unrolled gradient of images and atoms"""
    for problem in list(problems(0.5, effort.quick))[:2]:
        peaks = {
            kind: [float(peak(partial(differentiated, problem, kind, effort.iterations))) for _ in range(2)]
            for kind in ("implicit", "unroll")
        }
        implicit, unrolled = peaks["implicit"], peaks["unroll"]
        remark = f"{min(implicit) / 2**20:.3g} MiB / {min(unrolled) / 2**20:.3g} MiB, {effort.iterations} iterations"
        yield Figure(problem.name, *ratio(implicit, unrolled), Goal("at most", 0.15), remark)


def differentiated(problem: Problem, gradient: GradientKind, count: int) -> None:
    """Codes, and a gradient through them."""
    layer = problem.layer(Fista(0.0, count), gradient)
    layer(problem.images.clone().requires_grad_()).square().sum().backward()


def peak(call: Callable[[], object]) -> int:
    """The most bytes that torch held at a time beyond what it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    assert record.profiler is not None and record.profiler.kineto_results is not None, "the profiler ran"
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()  # pyright: ignore[reportAttributeAccessIssue]
        most = max(most, held)
    return most


PARTS: dict[str, Callable[[Effort], Iterator[Figure]]] = {
    "floor": floor,
    "iterations": iterations,
    "speed": speed,
    "training": training,
    "memory": memory,
}


if __name__ == "__main__":
    main()
