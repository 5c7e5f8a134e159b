"""Ordinary training, written out without a federation: what protocols have to equal."""

from collections.abc import Iterator

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from fedsplit.federation.optimizer import Adam
from fedsplit.federation.plan import Plan
from fedsplit.protocols.base import Protocol
from fedsplit.records.images import Holding
from tests.federation.builders import batches


def optimizer_of(plan: Plan, module: nn.Module) -> torch.optim.Optimizer:
    """The plan's optimiser from torch itself, with the rounding of ours."""
    chosen, parameters = plan.optimizer, module.parameters()
    if isinstance(chosen, Adam):
        return torch.optim.Adam(parameters, lr=chosen.learning_rate, weight_decay=chosen.weight_decay, fused=True)
    return torch.optim.SGD(
        parameters, lr=chosen.learning_rate, momentum=chosen.momentum, weight_decay=chosen.weight_decay, fused=True
    )


def step(model: nn.Module, optimizers: list[torch.optim.Optimizer], pixels: Tensor, labels: Tensor) -> float:
    """One step of joint training; returns the loss."""
    loss = functional.cross_entropy(model(pixels), labels)
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
    return loss.item()


def epochs(plan: Plan, protocol: Protocol, own: Holding, number: int, client: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(pixels, labels) of every batch of one client in one round."""
    for epoch in range(protocol.local_epochs):
        for place in batches(plan, protocol.batch_size, len(own), (number, client, epoch)):
            yield own.pixels[place].to(plan.dtype), own.labels[place]


def mean(states: list[dict[str, Tensor]], weights: list[int]) -> dict[str, Tensor]:
    """The weighted mean of every entry; the largest of whole numbers."""
    total = sum(weights)
    return {
        name: (
            torch.stack([weight * state[name] for weight, state in zip(weights, states, strict=True)]).sum(0) / total
            if value.is_floating_point()
            else torch.stack([state[name] for state in states]).amax(0)
        )
        for name, value in states[0].items()
    }


def permutations(rng: Generator, clients: list[int]) -> Iterator[int]:
    """Clients in a random order."""
    return (clients[place] for place in torch.randperm(len(clients), generator=rng).tolist())
