"""What a training costs beyond its arithmetic: the engine ray against the same steps in a plain loop, by torch alone.

`python benchmarks/training.py` takes twenty minutes of two cores that do nothing else; `--only splitfed` runs the
parts whose name begins so, `--quick` small trainings, once or twice each: whether everything runs, not how fast. Prints
a table, then one JSON object. A side is a whole training on one thread per process, in a session that has trained
before. A ratio is best over best of turns that both sides take, its interval that of the turns.
"""

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import torch
from commands import FEDSPLIT, ROOT
from exchange import started_ray
from sparse import load, printed
from sparse_coding.figure import Figure, Goal, ratio, turns
from torch import Tensor, nn, optim
from torch.nn import functional as F

from fedsplit.defenses.none import Undefended
from fedsplit.engines.base import Engine
from fedsplit.engines.inline import Inline
from fedsplit.engines.ray import Ray
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.cohort import Task
from fedsplit.federation.ledger import Recording
from fedsplit.federation.messages import Opening
from fedsplit.federation.optimizer import Adam
from fedsplit.federation.plan import Plan, State, state_of
from fedsplit.federation.roles import FederationData
from fedsplit.federation.trained import Standing, Trained
from fedsplit.flower import wire
from fedsplit.flower.grid.grid import StickyGrid
from fedsplit.flower.grid.layout import Layout
from fedsplit.flower.grid.release import Message
from fedsplit.flower.session import close_session
from fedsplit.models.base import Model
from fedsplit.models.lenet import LeNet
from fedsplit.models.linear import Linear
from fedsplit.models.resnet18 import ResNet18
from fedsplit.protocols.base import Protocol
from fedsplit.protocols.parallel import Parallel
from fedsplit.protocols.sequential import Sequential
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.records.images import Holding, Images, Shape
from fedsplit.training import Training

CLASSES = 10
LEARNING_RATE = 0.001
LONG_MILLISECONDS = 10
"""A step that takes longer is judged by the ratio, a shorter one by what is added to it."""
ADDED_MILLISECONDS = 0.7

Rows = tuple[Tensor, Tensor]
"""Images and labels of one client."""


@dataclass(frozen=True)
class Problem:
    """A federation on random images. rows: of each client."""

    name: str
    model: Model
    cut: str
    shape: Shape
    batch: int
    rows: int
    rounds: int
    clients: int = 10

    @cached_property
    def plan(self) -> Plan:
        """What all parties agree on."""
        return Plan(
            model=self.model,
            cut=self.cut,
            defense=Undefended(),
            optimizer=Adam(learning_rate=LEARNING_RATE),
            shape=self.shape,
            classes=CLASSES,
            seed=0,
        )

    @cached_property
    def data(self) -> FederationData:
        """Every client's rows; one batch of test images, as evaluation is no part of what is compared."""
        test = self.images(self.batch)
        holdings: list[Holding] = []
        for _ in range(self.clients):
            own = self.images(self.rows)
            rows = torch.arange(self.rows)
            holdings.append(Holding(own.pixels, own.labels, torch.ones(self.rows), rows, rows < 0))
        return FederationData(tuple(holdings), visitors=(), public=test, test=test)

    @property
    def steps(self) -> int:
        """How often a client crosses the cut in a training."""
        return self.rounds * self.clients * self.rows // self.batch

    @property
    def start(self) -> Standing:
        """Before the first round."""
        segments = self.plan.segments()
        return Standing(0, state_of(segments.home), state_of(segments.server))

    def images(self, count: int) -> Images:
        """Random ones."""
        names = tuple(str(label) for label in range(CLASSES))
        return Images(torch.rand(count, *self.shape), torch.randint(CLASSES, (count,)), torch.arange(count), names)

    def trained(self, engine: Engine, kind: type[Protocol], **settings: object) -> Trained:
        """A whole training, into a folder that is thrown away."""
        protocol = kind.model_validate({"rounds": self.rounds, "batch_size": self.batch, **settings})
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Checkpoint(Path(folder), "benchmark")
            trained = engine.train(Training(protocol, self.plan, self.start, self.data, Recording(), checkpoint))
        assert trained.standing.steps == self.steps
        return trained


LENET = Problem("lenet 28x28", LeNet(), "pool1", (1, 28, 28), batch=64, rows=512, rounds=3)
RESNET = Problem("resnet18 64x64", ResNet18(), "layer1_block2", (3, 64, 64), batch=16, rows=64, rounds=1)
LINEAR = Problem("linear 8x8", Linear(width=32), "rows", (1, 8, 8), batch=16, rows=128, rounds=10)
LONG_STEPS = replace(LENET, name="lenet, long steps", batch=128, rounds=6)
SHORT_STEPS = replace(LINEAR, name="linear, short steps", rounds=20)
"""Of so many rounds that what a training costs once, whatever its length, is little of it."""


def in_miniature(problem: Problem) -> Problem:
    """The same with as little as shows that it runs."""
    return replace(problem, clients=2, batch=4, rows=8, rounds=2)


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
            engine, reference, loop = turns((ours, inline, partial(plainly, problem)), effort.repeats)
            step = 1e3 * min(loop) / problem.steps
            long = step >= LONG_MILLISECONDS
            added, inline_added = (1e3 * (min(side) - min(loop)) / problem.steps for side in (engine, reference))
            remark = f"{step:.3g} ms a step, {added:.3g} ms added; inline {inline_added:.3g} ms"
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


# The plain loops: what somebody would write who needs the numbers of one protocol and nothing else.


def halves(problem: Problem) -> tuple[nn.Sequential, nn.Sequential, list[Rows]]:
    """Client's and server's part of the model, with the weights that all sides start from, and all clients' rows."""
    # The same weights, for a maximum over pixels takes longer the less it can be foreseen.
    blocks = list(problem.model.blocks(problem.shape, CLASSES).items())
    cut = [name for name, _ in blocks].index(problem.cut) + 1
    client, server = (nn.Sequential(OrderedDict(part)) for part in (blocks[:cut], blocks[cut:]))
    client.load_state_dict(problem.start.client)
    server.load_state_dict(problem.start.server)
    clients = [(holding.pixels, holding.labels) for holding in problem.data.holdings]
    return client, server, clients


def adam(module: nn.Module) -> optim.Optimizer:
    return optim.Adam(module.parameters(), lr=LEARNING_RATE)


def batches(rows: Rows, size: int) -> Iterator[Rows]:
    pixels, labels = rows
    for picked in torch.randperm(len(labels)).split(size):
        yield pixels[picked], labels[picked]


def copied(module: nn.Module) -> State:
    return {name: value.clone() for name, value in module.state_dict().items()}


def mean(states: Sequence[State]) -> State:
    return {name: torch.stack([state[name].double() for state in states]).mean(dim=0) for name in states[0]}


def step(
    client: nn.Module,
    server: nn.Module,
    movers: tuple[optim.Optimizer, optim.Optimizer],
    images: Tensor,
    labels: Tensor,
) -> float:
    smashed = client(images)
    received = smashed.detach().requires_grad_()
    loss = F.cross_entropy(server(received), labels)
    for mover in movers:
        mover.zero_grad()
    loss.backward()
    movers[1].step()
    smashed.backward(received.grad)
    movers[0].step()
    return loss.item()


def side_by_side(problem: Problem) -> State:
    """The loop of splitfed_v1."""
    client, server, clients = halves(problem)
    whole = nn.Sequential(client, server)
    state = copied(whole)
    for _ in range(problem.rounds):
        returned: list[State] = []
        for rows in clients:
            whole.load_state_dict(state)
            movers = adam(client), adam(server)
            for images, labels in batches(rows, problem.batch):
                step(client, server, movers, images, labels)
            returned.append(copied(whole))
        state = mean(returned)
    return state


def one_after_another(problem: Problem) -> State:
    """The loop of sequential."""
    client, server, clients = halves(problem)
    for _ in range(problem.rounds):
        movers = adam(client), adam(server)
        for rows in clients:
            for images, labels in batches(rows, problem.batch):
                step(client, server, movers, images, labels)
    return copied(client)


def at_once(problem: Problem, *, together: bool) -> State:
    """The loop of parallel. together: all move along their joint gradient; else segments are averaged after a round."""
    client, server, clients = halves(problem)
    own = [copy.deepcopy(client) for _ in clients]
    for _ in range(problem.rounds):
        mover, movers = adam(server), [adam(one) for one in own]
        for taken in zip(*(batches(rows, problem.batch) for rows in clients), strict=True):
            smashed = [one(images) for one, (images, _) in zip(own, taken, strict=True)]
            received = torch.cat([each.detach() for each in smashed]).requires_grad_()
            loss = F.cross_entropy(server(received), torch.cat([labels for _, labels in taken]))
            for one in (mover, *movers):
                one.zero_grad()
            loss.backward()
            mover.step()
            assert received.grad is not None
            gradients = received.grad.chunk(len(own))
            scale = 1 if together else len(own)
            for each, gradient in zip(smashed, gradients, strict=True):
                each.backward(scale * gradient)
            if together:
                for alike in zip(*(one.parameters() for one in own), strict=True):
                    joint = torch.stack([one.grad for one in alike if one.grad is not None]).sum(dim=0)
                    for one in alike:
                        one.grad = joint
            for one in movers:
                one.step()
        if not together:
            state = mean([one.state_dict() for one in own])
            for one in own:
                one.load_state_dict(state)
    return copied(own[0])


if __name__ == "__main__":
    main()
