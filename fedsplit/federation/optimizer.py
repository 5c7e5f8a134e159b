"""How segments are optimised, the same way at the clients and at the server."""

from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import nn, optim

from fedsplit.component import Settings

State = Literal["reset", "keep"]


class Adam(Settings):
    """Adam (Kingma, Ba, ICLR 2015)."""

    kind: Literal["adam"] = "adam"
    learning_rate: PositiveFloat = 0.001
    weight_decay: NonNegativeFloat = 0.0
    state: State = "reset"
    """Whether moments start anew in each round, or stay with their client from one round to its next."""

    def over(self, module: nn.Module) -> optim.Optimizer:
        """An optimiser over the parameters that may move."""
        return optim.Adam(_movable(module), lr=self.learning_rate, weight_decay=self.weight_decay)


class StochasticGradientDescent(Settings):
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"] = "sgd"
    learning_rate: PositiveFloat = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: NonNegativeFloat = 0.0
    state: State = "reset"
    """Whether momenta start anew in each round, or stay with their client from one round to its next."""

    def over(self, module: nn.Module) -> optim.Optimizer:
        """An optimiser over the parameters that may move."""
        return optim.SGD(
            _movable(module), lr=self.learning_rate, momentum=self.momentum, weight_decay=self.weight_decay
        )


Optimizer = Annotated[Adam | StochasticGradientDescent, Field(discriminator="kind")]


def _movable(module: nn.Module) -> list[nn.Parameter]:
    # A segment without parameters (a pooling block alone, or a frozen one) still needs an optimiser that does nothing.
    return [parameter for parameter in module.parameters() if parameter.requires_grad] or [_idle()]


def _idle() -> nn.Parameter:
    return nn.Parameter(torch.zeros(0))
