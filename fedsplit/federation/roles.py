"""The parties of a federation: a client, and the server."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isfinite

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from fedsplit.errors import EngineError
from fedsplit.federation.messages import Crossing, CutGradient, Hidden, HiddenGradient
from fedsplit.federation.plan import Plan, State
from fedsplit.federation.sampling import batches
from fedsplit.numerics.finite import all_finite
from fedsplit.records.images import Holding, Images
from fedsplit.records.step import ONLY_ROUND, ClientStep, Passage, Progress, ServerStep
from fedsplit.split import Features, Home, Segment


class Client:
    """Holds private rows, a client segment and (U-shaped) a head; sends defended smashed data, takes cut gradients."""

    def __init__(self, plan: Plan, home: Home, holding: Holding, memory: State, rng: Generator) -> None:
        """What is at `home` is in training mode with this round's state. rng: of all that the defense draws."""
        self._plan = plan
        self.segment = home.client
        self._head = home.head
        self.home = home.whole
        self._parameters = dict(self.home.named_parameters())
        self.holding = holding
        self._rng = rng
        self._optimizer = plan.optimizer.over(self.home)
        self._optimizer.remember(memory)
        self._step: ClientStep | None = None
        self._released: Tensor | None = None

    @property
    def memory(self) -> State:
        """What the optimiser knows by now."""
        return self._optimizer.memory

    def batches(self, size: int, rng: Generator) -> Iterator[Holding]:
        """One epoch's batches of the holding, as the defense wants them drawn."""
        return map(self.holding.at, batches(self._plan.defense.samples, len(self.holding), size, rng))

    def send(self, batch: Holding, expected: float | None = None) -> Crossing:
        """Runs the segment and the defense; keeps the graph, noise included, until the gradient comes back.

        expected: the weight of a batch on average, where its rows are drawn.
        """
        images = batch.pixels.to(self._plan.device, self._plan.dtype)
        labels = batch.labels.to(self._plan.device)
        weights = batch.weights.to(self._plan.device, self._plan.dtype)
        self._optimizer.zero_grad()
        features = _features(self._plan, self.segment, images)
        smashed = released = features[-1][1]
        if self._plan.defense.changes_gradients and smashed.requires_grad:
            smashed.retain_grad()
        for member in self._plan.defense.releasing("training"):
            released = member.release(released, self._rng)
        self._step = ClientStep(images, features, smashed, labels, weights, expected=expected)
        self._released = released
        return Crossing(released.detach(), labels if self._head is None else None, weights, expected)

    def end(self, hidden: Hidden) -> tuple[HiddenGradient, float]:
        """Runs the head on the server's features; returns the gradient at them and the task loss."""
        step = self._step
        assert self._head is not None and step is not None, "features came before a sending"
        features = hidden.features.detach().requires_grad_()
        logits = _features(self._plan, self._head, features)[-1][1]
        loss = task_loss(logits, step.labels, step.weights, step.mass)
        loss.backward()
        return HiddenGradient(_finite(loss, features, "client")), float(loss.detach())

    def backward(self, answer: CutGradient) -> None:
        """Takes the cut gradient of the last sending and adds the client's own penalty: every gradient is there."""
        step, released = self._step, self._released
        assert step is not None and released is not None, "a gradient came back before anything was sent"
        defense = self._plan.defense
        penalty = defense.client_penalty(step) if len(step.images) else step.smashed.sum()
        # One pass for both: the graph below the smashed data is shared, and is freed by the first backward.
        _backward((released, answer.gradient), (penalty, None))
        if step.smashed.retains_grad:
            self._step = step = replace(step, gradient=step.smashed.grad)
        defense.after_backward(self.segment, step, self._rng)
        self._released = None

    @property
    def gradients(self) -> State:
        """What `backward` left, by parameter."""
        named = self._parameters.items()
        return {name: parameter.grad for name, parameter in named if parameter.grad is not None}

    def step(self, gradients: State | None = None) -> None:
        """Moves along its own gradients, or along these."""
        if gradients is not None:
            for name, parameter in self._parameters.items():
                parameter.grad = gradients[name].to(parameter) if name in gradients else None
        self._optimizer.step()
        assert self._step is not None, "a step needs a gradient"
        with torch.no_grad():
            self._plan.defense.after_step(self.segment, self._step, self._rng)
        self._step = None

    def receive(self, answer: CutGradient) -> None:
        """Takes the cut gradient of the last sending, and steps."""
        self.backward(answer)
        self.step()


class Server(ABC):
    """Holds a server segment; answers what clients send.

    losses: of each step, where they are known here.
    """

    segment: Segment
    losses: list[float]

    @property
    @abstractmethod
    def memory(self) -> State:
        """What it goes on with in the next round, besides its segment."""

    @abstractmethod
    def answer(self, message: Crossing | HiddenGradient) -> Hidden | CutGradient:
        """What goes back to the client, from the segment as it stands."""

    @abstractmethod
    def move(self) -> None:
        """What the segment learns from the messages answered last, once the client has its answer: while the server
        moves, clients compute."""


class HonestServer(Server):
    """Trains its segment on the clients' task."""

    def __init__(
        self, plan: Plan, segment: Segment, memory: State, rng: Generator, progress: Progress = ONLY_ROUND
    ) -> None:
        """`segment` is in training mode with this round's state. rng: of all that the defense draws here."""
        self._plan = plan
        self._progress = progress
        self.segment = segment
        self._optimizer = plan.optimizer.over(segment)
        self._optimizer.remember(memory)
        self.losses: list[float] = []
        self._rng = rng
        self._entry: Tensor | None = None
        self._exit: Tensor | None = None
        self._penalty: Tensor | None = None
        self._mass: Tensor | None = None
        self._learned = False
        self._passage: Passage | None = None

    @property
    def memory(self) -> State:
        """What the optimiser keeps for the next round."""
        return self._optimizer.memory if self._plan.optimizer.state == "keep" else {}

    def answer(self, message: Crossing | HiddenGradient) -> Hidden | CutGradient:
        """A crossing with labels gets the gradient of the mean loss over its rows; one without them gets features, and
        the gradient at these that of all before them."""
        assert not self._learned, "who has learned moves before the next answer"
        if isinstance(message, HiddenGradient):
            return self._finish(message)
        return self._begin(message) if message.labels is None else self._step(message, message.labels)

    def move(self) -> None:
        """One step of the optimiser, where there is a gradient."""
        if not self._learned:
            return
        if self._passage is not None:
            self._plan.defense.after_server_backward(self.segment, self._passage, self._rng)
        self._optimizer.step()
        self._learned, self._passage = False, None

    def _step(self, crossing: Crossing, labels: Tensor) -> CutGradient:
        smashed = crossing.smashed.detach().requires_grad_()
        features = _features(self._plan, self.segment, smashed)
        logits = features[-1][1]
        task = task_loss(logits, labels, crossing.weights, crossing.mass)
        penalty = self._penalised(_server_step(features, logits, crossing, self._progress))
        self._optimizer.zero_grad()
        (task + penalty).backward()
        self._learn(smashed, logits, crossing.mass)
        self.losses.append(float(task.detach()))
        return CutGradient(_finite(task, smashed, "server"))

    def _begin(self, crossing: Crossing) -> Hidden:
        self._entry = crossing.smashed.detach().requires_grad_()
        features = _features(self._plan, self.segment, self._entry)
        self._exit = features[-1][1]
        self._mass = crossing.mass
        self._penalty = self._penalised(_server_step(features, None, crossing, self._progress))
        return Hidden(self._exit.detach())

    def _finish(self, message: HiddenGradient) -> CutGradient:
        entry, features, penalty, mass = self._entry, self._exit, self._penalty, self._mass
        assert entry is not None and features is not None, "a gradient came before a crossing"
        assert penalty is not None and mass is not None, "they are set together"
        self._optimizer.zero_grad()
        _backward((features, message.gradient), (penalty, None))
        self._learn(entry, features, mass)
        self._entry = self._exit = self._penalty = self._mass = None
        return CutGradient(_finite(penalty, entry, "server"))

    def _penalised(self, step: ServerStep) -> Tensor:
        """What the defense adds; its outputs are what a defense of gradients will be told the gradient at."""
        outputs = step.features[-1][1]
        if self._plan.defense.changes_server_gradients and outputs.requires_grad:
            outputs.retain_grad()
        return self._plan.defense.server_penalty(step) if len(outputs) else outputs.sum()

    def _learn(self, inputs: Tensor, outputs: Tensor, mass: Tensor) -> None:
        self._learned = True
        if self._plan.defense.changes_server_gradients:
            gradient = torch.zeros_like(outputs) if outputs.grad is None else outputs.grad
            self._passage = Passage(inputs.detach(), outputs.detach(), gradient, mass)


def task_loss(logits: Tensor, labels: Tensor, weights: Tensor, mass: Tensor) -> Tensor:
    """The weighted sum of the rows' cross-entropies, by `mass`: their weighted mean, or what is one on average."""
    losses = F.cross_entropy(logits, labels, reduction="none")
    return (losses * weights).sum() / mass


def _server_step(features: Features, logits: Tensor | None, crossing: Crossing, progress: Progress) -> ServerStep:
    return ServerStep(features, logits, crossing.labels, crossing.weights, progress, crossing.expected)


def _features(plan: Plan, segment: Segment, inputs: Tensor) -> Features:
    """Of a training step. Defenses, losses and the other party get them in the plan's own type."""
    with plan.stepping():
        features = segment.features(inputs)
    return tuple((name, output.to(plan.dtype)) for name, output in features)


def _finite(loss: Tensor, inputs: Tensor, party: str) -> Tensor:
    gradient = inputs.grad
    assert gradient is not None, f"what the {party} computes does not depend on what it was sent"
    if not (isfinite(float(loss.detach())) and all_finite(gradient)):
        raise EngineError("the loss is no longer finite", at=party, remedy="lower optimizer.learning_rate")
    return gradient


def _backward(*ends: tuple[Tensor, Tensor | None]) -> None:
    """One pass from those tensors that depend on parameters, each with the gradient at it; None: it is a scalar."""
    starting = [(end, gradient) for end, gradient in ends if end.requires_grad]
    if not starting:
        return
    tensors = tuple(end for end, _ in starting)
    gradients = tuple(torch.ones_like(end) if gradient is None else gradient for end, gradient in starting)
    # torch.autograd.backward ends up here, too. To look at the shape of a gradient it imports a package for symbolic
    # mathematics, which takes half a second in every process.
    engine = torch.autograd.Variable._execution_engine  # pyright: ignore
    engine.run_backward(tensors, gradients, False, False, (), allow_unreachable=True, accumulate_grad=True)


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
    if not plan.defense.augments:
        return holding
    home = plan.home()
    plan.prepare(home.whole, start, training=False)
    with plan.seeds.fork("augment", client):
        return plan.defense.augment(holding, public, home.client, plan.seeds("augment", client))
