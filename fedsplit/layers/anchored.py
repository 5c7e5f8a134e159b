"""Weights that remember where they were, and how much hung on each: elastic weight consolidation (Kirkpatrick et al.,
"Overcoming catastrophic forgetting in neural networks", PNAS 2017)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Anchored(nn.Module):
    """A block as it is, beside buffers of its parameters' sizes: their anchors and their importance. These travel and
    are averaged as all of a state is, and equal ones have themselves for a mean. Without importance nothing pulls."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        for number, parameter in enumerate(block.parameters()):
            self.register_buffer(f"anchor{number}", parameter.detach().clone())
            self.register_buffer(f"importance{number}", torch.zeros_like(parameter))

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, ...) -> what the block makes of it."""
        return self.block(inputs)

    @torch.no_grad()
    def settle(self, importance: Sequence[Tensor]) -> None:
        """The parameters as they are become the anchors. importance: of each, in its shape."""
        for number, (parameter, own) in enumerate(zip(self.block.parameters(), importance, strict=True)):
            self.get_buffer(f"anchor{number}").copy_(parameter)
            self.get_buffer(f"importance{number}").copy_(own)

    @torch.no_grad()
    def pull(self, strength: float) -> None:
        """Adds to the gradients that of strength / 2 times the sum of importance (parameter - anchor)^2, but not where
        a parameter has none."""
        for number, parameter in enumerate(self.block.parameters()):
            if parameter.grad is not None:
                away = parameter - self.get_buffer(f"anchor{number}")
                parameter.grad += strength * self.get_buffer(f"importance{number}") * away
