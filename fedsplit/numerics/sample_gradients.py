"""What each sample of a batch gives to a gradient, and the sum of what is left of it when no sample may give much."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.func import grad, vmap

Parameters = Mapping[str, Tensor]
Function = Callable[[Parameters, Tensor], Tensor]
"""(parameters, (1, ...)) -> (1, ...). It may couple no samples, and draw no random numbers."""

_NUMBERS_AT_A_TIME = 2**25
"""In the gradients of all samples that are in memory together."""


def clipped_gradient(
    function: Function, parameters: Parameters, inputs: Tensor, gradients: Tensor, bound: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """As `sample_gradients`, but with the clipped sum of all gradients, which are never in memory all together."""
    if not len(inputs):
        return torch.zeros_like(gradients), {name: torch.zeros_like(value) for name, value in parameters.items()}
    size = max(1, _NUMBERS_AT_A_TIME // sum(parameter.numel() for parameter in parameters.values()))
    outputs: list[Tensor] = []
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for some, backwards in zip(inputs.split(size), gradients.split(size), strict=True):
        output, found = sample_gradients(function, parameters, some, backwards)
        outputs.append(output)
        total = {name: total[name] + one for name, one in clipped_sum(found, bound).items()}
    return torch.cat(outputs), total


def sample_gradients(
    function: Function, parameters: Parameters, inputs: Tensor, gradients: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Every sample on its own through `function` and back.

    inputs: (n, ...). gradients: of a loss, at the outputs of the n samples. Returns the outputs, (n, ...), and the
    loss's gradient by parameter and sample, (n, *parameter).
    """

    def alone(sample: Tensor, gradient: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        def loss(own: Parameters) -> tuple[Tensor, Tensor]:
            output = function(own, sample[None])[0]
            return (output * gradient).sum(), output

        by_parameter, output = grad(loss, has_aux=True)(dict(parameters))
        return output, by_parameter

    return vmap(alone)(inputs, gradients)


def clipped_sum(gradients: Parameters, bound: float) -> dict[str, Tensor]:
    """{parameter: (n, *parameter)} -> {parameter: its shape}: the sum over samples, after each sample's gradient, all
    parameters taken together, was scaled down to the norm `bound` where it was longer."""
    norms = torch.stack([gradient.flatten(start_dim=1).norm(dim=1) for gradient in gradients.values()]).norm(dim=0)
    shares = (bound / norms).clamp(max=1)
    return {name: torch.einsum("n,n...->...", shares, gradient) for name, gradient in gradients.items()}
