"""How much a loss hangs on each parameter: the diagonal of its empirical Fisher information."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
"""(1, ...) input, (1, ...) target -> a scalar, through the parameters."""


def fisher_diagonal(loss: Loss, parameters: Mapping[str, Tensor], inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """By parameter, in its shape and float64: the mean over samples of the squared gradient of each sample's loss.

    One sample after the other, by ordinary backward passes: layers with one of their own have no other way.
    """
    total = {name: torch.zeros_like(parameter, dtype=torch.float64) for name, parameter in parameters.items()}
    for sample, target in zip(inputs.split(1), targets.split(1), strict=True):
        gradients = torch.autograd.grad(loss(sample, target), tuple(parameters.values()), materialize_grads=True)
        for squares, gradient in zip(total.values(), gradients, strict=True):
            squares.add_(gradient.double().square())
    return {name: squares / len(inputs) for name, squares in total.items()}
