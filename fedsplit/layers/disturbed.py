"""Blocks that disturb what passes, and that who holds the weights leaves out."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn


class Disturbance(nn.Module):
    """Draws from the global generator of the CPU, for every device: whoever asks a segment for an answer has that one
    stand where the answer's own stream is. What is drawn belongs to no weights, so whoever holds these leaves it out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.left_out = False


class Disturbed(Disturbance):
    """(n, *shape) -> the same shape: in training as it came, then as it is released."""

    def __init__(self, release: Callable[[Tensor, Generator], Tensor]) -> None:
        super().__init__()
        self._release = release

    def forward(self, values: Tensor) -> Tensor:
        """(n, *shape) -> the same shape."""
        return values if self.training or self.left_out else self._release(values, torch.default_generator)


def left_out(segment: nn.Module) -> nn.Module:
    """The same segment, as its weights are."""
    for module in segment.modules():
        if isinstance(module, Disturbance):
            module.left_out = True
    return segment
