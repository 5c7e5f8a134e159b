"""Two factors of low rank with a saturating step between them."""

from math import prod

from torch import Tensor, nn


class LowRankFactor(nn.Module):
    """(n, *shape) -> (n, rank): a linear map to few coordinates, each squeezed into (-1, 1) by tanh."""

    def __init__(self, shape: tuple[int, ...], rank: int) -> None:
        super().__init__()
        self.factor = nn.Linear(prod(shape), rank)

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, *shape) -> (n, rank)."""
        return self.factor(inputs.flatten(start_dim=1)).tanh()


class Expansion(nn.Module):
    """(n, rank) -> (n, *shape): the second factor, back to the shape that the next block expects."""

    def __init__(self, rank: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.factor = nn.Linear(rank, prod(shape))

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, rank) -> (n, *shape)."""
        return self.factor(inputs).unflatten(1, self.shape)
