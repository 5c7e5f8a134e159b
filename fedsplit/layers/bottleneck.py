"""Two factors of low rank with a step between them that most often saturates."""

from collections import OrderedDict
from collections.abc import Callable
from math import prod
from typing import Literal

from torch import Tensor, nn

Activation = Literal["none", "relu", "relu6", "leaky_relu", "sigmoid", "tanh"]
"""What each coordinate between the factors passes."""

_STEPS: dict[Activation, Callable[[], nn.Module]] = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}


def low_rank_factor(shape: tuple[int, ...], rank: int, activation: Activation = "tanh") -> nn.Sequential:
    """(n, *shape) -> (n, rank): a linear map to few coordinates, each of which passes the activation."""
    return nn.Sequential(
        OrderedDict(flat=nn.Flatten(), factor=nn.Linear(prod(shape), rank), activation=_STEPS[activation]())
    )


class Expansion(nn.Module):
    """(n, rank) -> (n, *shape): the second factor, back to the shape that the next block expects."""

    def __init__(self, rank: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.factor = nn.Linear(rank, prod(shape))

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, rank) -> (n, *shape)."""
        return self.factor(inputs).unflatten(1, self.shape)
