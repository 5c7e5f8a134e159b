"""Distances in the Poincare ball."""

import torch
from torch import Tensor

_LEAST = 1e-4
"""How far from the boundary a class lies: on it, everything is infinitely far away."""


def distance_to_class(logits: Tensor, labels: Tensor) -> Tensor:
    """(n, classes), (n,) -> (n,): how far each row of logits is from its class, arcosh(1 + 2 |u - v|^2 / ((1 - |u|^2)
    (1 - |v|^2))) with u the logits over the sum of their sizes and v the class near the boundary of the ball.

    Its gradient does not vanish where the class is already likely, as that of the cross-entropy does (Struppek,
    Hintersdorf, De Almeida Correia, Adler and Kersting, ICML 2022).
    """
    placed = logits / logits.abs().sum(dim=1, keepdim=True).clamp(min=torch.finfo(logits.dtype).tiny)
    # Just inside: one-sided logits would lie on the boundary itself.
    placed = placed * (1 - torch.finfo(logits.dtype).eps)
    classes = torch.nn.functional.one_hot(labels, logits.shape[1]).to(logits) * (1 - _LEAST)
    apart = 2 * (placed - classes).square().sum(dim=1)
    inside = (1 - placed.square().sum(dim=1)) * (1 - classes.square().sum(dim=1))
    return torch.acosh(1 + apart / inside)
