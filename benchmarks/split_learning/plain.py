"""The plain loops: what somebody would write who needs the numbers of one protocol and nothing else."""

import copy
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import torch
from split_learning.problem import CLASSES, LEARNING_RATE, Problem, Rows
from torch import Tensor, nn, optim
from torch.nn import functional as F

from fedsplit.federation.plan import State


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
                share_gradients(own)
            for one in movers:
                one.step()
        if not together:
            average(own)
    return copied(own[0])


def share_gradients(segments: Sequence[nn.Module]) -> None:
    """Every segment gets the sum."""
    for alike in zip(*(segment.parameters() for segment in segments), strict=True):
        joint = torch.stack([one.grad for one in alike if one.grad is not None]).sum(dim=0)
        for one in alike:
            one.grad = joint


def average(segments: Sequence[nn.Module]) -> None:
    """Every segment gets the mean."""
    state = mean([segment.state_dict() for segment in segments])
    for segment in segments:
        segment.load_state_dict(state)
