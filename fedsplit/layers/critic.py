"""A critic that tells two distributions apart by a function that rises nowhere faster than 1 (Gulrajani, Ahmed,
Arjovsky, Dumoulin, Courville, "Improved training of Wasserstein GANs", NeurIPS 2017)."""

from math import prod

import torch
from torch import Generator, Tensor, nn

_SMALLEST = 4


class Critic(nn.Module):
    """(n, *cut) -> (n,), whatever the cut: convolutions of stride 2 where it has places, then two dense layers."""

    def __init__(self, cut: tuple[int, ...], width: int) -> None:
        """width: units of each hidden layer. Initial weights come from torch's global generator."""
        super().__init__()
        layers: list[nn.Module] = []
        if len(cut) == 3:
            channels, *sides = cut
            stages = [(channels, 1), *((width, 2) for _ in range(_halvings(max(sides))))]
            for inputs, stride in stages:
                layers += [nn.Conv2d(inputs, width, kernel_size=3, stride=stride, padding=1), nn.LeakyReLU(0.2)]
                sides = [-(-side // stride) for side in sides]
            cut = (width, *sides)
        layers += [nn.Flatten(), nn.Linear(prod(cut), 4 * width), nn.LeakyReLU(0.2), nn.Linear(4 * width, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """High for one distribution, low for the other."""
        return self.layers(features)[:, 0]


def critic_loss(critic: nn.Module, low: Tensor, high: Tensor, penalty: float, rng: Generator) -> Tensor:
    """What a critic minimises that is to be low on one batch and high on the other, both (n, *cut); the penalty keeps
    the norm of its gradient, over all of a row's values, at 1 between them."""
    rows = min(len(low), len(high))
    share = torch.rand((rows, *(1 for _ in low.shape[1:])), generator=rng).to(low)
    between = (share * low[:rows] + (1 - share) * high[:rows]).requires_grad_()
    (slopes,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    steepness = slopes.flatten(1).norm(dim=1)
    return critic(low).mean() - critic(high).mean() + penalty * (steepness - 1).square().mean()


def _halvings(side: int) -> int:
    return max(0, (side - 1).bit_length() - (_SMALLEST - 1).bit_length())
