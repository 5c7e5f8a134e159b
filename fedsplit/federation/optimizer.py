"""How segments are optimised, the same way at the clients and at the server."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import nn

from fedsplit.component import Settings
from fedsplit.federation.mover import AdamMover, DescentMover, Mover

State = Literal["reset", "keep"]


class Adam(Settings):
    """Adam (Kingma, Ba, ICLR 2015)."""

    kind: Literal["adam"] = "adam"
    learning_rate: PositiveFloat = 0.001
    weight_decay: NonNegativeFloat = 0.0
    state: State = "reset"
    """Whether moments start anew in each round, or stay with their client from one round to its next."""

    def over(self, module: nn.Module) -> Mover:
        """An optimiser over the parameters that may move."""
        return AdamMover(module, self.learning_rate, self.weight_decay)


class StochasticGradientDescent(Settings):
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"] = "sgd"
    learning_rate: PositiveFloat = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: NonNegativeFloat = 0.0
    state: State = "reset"
    """Whether momenta start anew in each round, or stay with their client from one round to its next."""

    def over(self, module: nn.Module) -> Mover:
        """An optimiser over the parameters that may move."""
        return DescentMover(module, self.learning_rate, self.weight_decay, self.momentum)


Optimizer = Annotated[Adam | StochasticGradientDescent, Field(discriminator="kind")]
