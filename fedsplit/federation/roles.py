"""The parties of split learning: a client, a server, and the cohort of clients wherever they are."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from fedsplit.errors import EngineError
from fedsplit.federation.optimizer import memory_of, remember
from fedsplit.federation.plan import Plan, State
from fedsplit.records.exchange import Exchange
from fedsplit.records.images import Holding, Images
from fedsplit.records.step import ClientStep, ServerStep
from fedsplit.split import Segment


@dataclass(frozen=True)
class Crossing:
    """What goes up at one step. smashed: (n, *cut shape), released and detached. labels, weights: (n,)."""

    smashed: Tensor
    labels: Tensor
    weights: Tensor

    @property
    def bytes(self) -> int:
        """Size of the smashed data and the labels; weights are 1 unless rows were made up, and are not counted."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (self.smashed, self.labels))


class Client:
    """Holds private rows and a client segment; sends defended smashed data and takes cut gradients."""

    def __init__(self, plan: Plan, segment: Segment, holding: Holding, memory: State, rng: Generator) -> None:
        """`segment` is in training mode with this round's state; `rng` draws all of the defense's randomness."""
        self._plan = plan
        self.segment = segment
        self.holding = holding
        self._rng = rng
        self._optimizer = plan.optimizer.over(segment)
        if memory:
            remember(self._optimizer, memory)
        self._step: ClientStep | None = None
        self._released: Tensor | None = None

    @property
    def memory(self) -> State:
        """What the optimiser keeps for this client's next round."""
        return memory_of(self._optimizer) if self._plan.optimizer.state == "keep" else {}

    def batches(self, size: int, rng: Generator) -> Iterator[Holding]:
        """The holding once, in random order. A last batch of one row joins the one before it: it has no variance."""
        order = torch.randperm(len(self.holding), generator=rng)
        cuts = list(range(0, len(order), size))
        if len(cuts) > 1 and len(order) - cuts[-1] == 1:
            cuts.pop()
        for start, stop in zip(cuts, [*cuts[1:], len(order)], strict=True):
            yield self.holding.at(order[start:stop])

    def send(self, batch: Holding) -> Crossing:
        """Runs the segment and the defense; keeps the graph, noise included, until the gradient comes back."""
        images = batch.pixels.to(self._plan.device, self._plan.dtype)
        labels = batch.labels.to(self._plan.device)
        features = self.segment.features(images)
        smashed = released = features[-1][1]
        for member in self._plan.defense.releasing("training"):
            released = member.release(released, self._rng)
        self._step = ClientStep(images, features, smashed, labels)
        self._released = released
        return Crossing(released.detach(), labels, batch.weights.to(self._plan.device, self._plan.dtype))

    def receive(self, gradient: Tensor) -> None:
        """Takes the cut gradient of the last sending, adds the client's own penalty, and steps."""
        step, released = self._step, self._released
        assert step is not None and released is not None, "a gradient came back before anything was sent"
        defense = self._plan.defense
        penalty = defense.client_penalty(step)
        self._optimizer.zero_grad()
        # One pass for both: the graph below the smashed data is shared, and is freed by the first backward.
        ends = [(end, start) for end, start in ((released, gradient), (penalty, None)) if end.requires_grad]
        if ends:
            torch.autograd.backward([end for end, _ in ends], [start for _, start in ends])
        defense.after_backward(self.segment, step, self._rng)
        self._optimizer.step()
        with torch.no_grad():
            defense.after_step(self.segment, step, self._rng)
        self._step = self._released = None


class Server:
    """Holds a server segment; answers smashed data with the gradient at the cut."""

    def __init__(self, plan: Plan, segment: Segment, memory: State) -> None:
        """`segment` is in training mode with this round's state."""
        self._plan = plan
        self.segment = segment
        self._optimizer = plan.optimizer.over(segment)
        if memory:
            remember(self._optimizer, memory)

    @property
    def memory(self) -> State:
        """What the optimiser keeps for the next round."""
        return memory_of(self._optimizer) if self._plan.optimizer.state == "keep" else {}

    def step(self, crossing: Crossing) -> tuple[Tensor, float]:
        """Trains on one crossing; returns the gradient at the cut, (n, *cut shape), and the task loss."""
        smashed = crossing.smashed.clone().requires_grad_()
        features = self.segment.features(smashed)
        logits = features[-1][1]
        losses = F.cross_entropy(logits, crossing.labels, reduction="none")
        task = (losses * crossing.weights).sum() / crossing.weights.sum()
        penalty = self._plan.defense.server_penalty(ServerStep(features, logits, crossing.labels))
        self._optimizer.zero_grad()
        (task + penalty).backward()
        self._optimizer.step()
        gradient = smashed.grad
        assert gradient is not None, "the server segment does not depend on the smashed data"
        value = float(task.detach())
        if not (isfinite(value) and bool(torch.isfinite(gradient).all())):
            raise EngineError("the loss is no longer finite", at="server", remedy="lower optimizer.learning_rate")
        return gradient, value


@dataclass(frozen=True)
class Task:
    """One client's local round: where everybody starts. memory: the client's and the server copy's optimiser."""

    round: int
    client: int
    client_state: State
    server_state: State
    client_memory: State
    server_memory: State


@dataclass(frozen=True)
class Update:
    """What one local round gave. bytes: (up, down) over all its steps. losses: the task loss of each step."""

    client: int
    examples: int
    client_state: State
    server_state: State
    client_memory: State
    server_memory: State
    exchanges: tuple[Exchange, ...]
    losses: tuple[float, ...]
    bytes: tuple[int, int]


class Cohort(ABC):
    """The clients of a federation, wherever they are."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many clients there are."""

    @abstractmethod
    def local_rounds(self, tasks: Sequence[Task]) -> tuple[Update, ...]:
        """Runs one local round at each named client; updates come in the order of the tasks.

        Raises EngineError with client, round and cause where one fails.
        """


@contextmanager
def blamed(task: Task) -> Iterator[None]:
    """Whatever fails inside becomes one EngineError that says which client, which round, and why."""
    at = f"client {task.client}, round {task.round}"
    try:
        yield
    except EngineError as error:
        raise EngineError(error.reason, at=at, remedy=error.remedy) from error
    except Exception as error:
        cause = f"training failed ({type(error).__name__}: {error})"
        raise EngineError(cause, at=at, remedy="mend the cause; the run goes on from the last round") from error


@dataclass(frozen=True)
class FederationData:
    """What the parties hold. holdings: what each client trains on. visitors: what each client is asked about at
    inference (the targets). public and test: the rows of these roles."""

    holdings: tuple[Holding, ...]
    visitors: tuple[Holding, ...]
    public: Images
    test: Images


def prepared_holding(plan: Plan, client: int, holding: Holding, public: Images, start: State) -> Holding:
    """The client's rows after the defense's augmentation, drawn from the stream "augment" of this client."""
    segments = plan.segments()
    plan.prepare(segments.client, start, training=False)
    with plan.seeds.fork("augment", client):
        return plan.defense.augment(holding, public, segments.client, plan.seeds("augment", client))
