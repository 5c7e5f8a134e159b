"""Federated averaging (McMahan, Moore, Ramage, Hampson, Aguera y Arcas, AISTATS 2017), summed in float64 in client
order, so that the result does not depend on who answered first."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from fedsplit.federation.plan import State

Statistics = Literal["mean", "pooled"]


def average(states: Sequence[State], weights: Sequence[float], statistics: Statistics = "mean") -> State:
    """The weighted mean of every entry, in its own type; counters take the largest value.

    statistics: how running statistics of batch normalisation are joined. mean: like parameters. pooled: the variance of
    the clients' joint data, that is the mean variance plus the variance of the means.
    """
    total = float(sum(weights))
    assert states and len(states) == len(weights) and total > 0, "averaging needs at least one weighted state"
    shares = [weight / total for weight in weights]
    averaged = {name: _mean([state[name] for state in states], shares) for name in states[0]}
    if statistics == "pooled":
        for name in (name for name in averaged if name.endswith("running_var")):
            averaged[name] = _pooled(states, shares, name)
    return averaged


def _mean(values: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    if not values[0].is_floating_point():
        return torch.stack(list(values)).amax(dim=0)
    # Summed as deviations from the first: what all clients share (a frozen block) comes out the same to the last bit.
    first = values[0].double()
    total = first.clone()
    for value, share in zip(values, shares, strict=True):
        total += share * (value.double() - first)
    return total.to(values[0].dtype)


def _pooled(states: Sequence[State], shares: Sequence[float], variance: str) -> Tensor:
    mean = variance.removesuffix("running_var") + "running_mean"
    centre = _mean([state[mean].double() for state in states], shares)
    spreads = [state[variance].double() + (state[mean].double() - centre).square() for state in states]
    return _mean(spreads, shares).to(states[0][variance].dtype)
