"""Answers that are changed a little, so that who learns from them learns something else (after Zhou, Ye, Zhu and Zhou,
who poison the gradients of an inversion network's training through the confidence vectors it is trained on)."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor

Norm = Literal["sum", "largest"]
"""Of a change: the sum of its magnitudes, or the largest of them."""

Step = Callable[[Tensor, Tensor], Tensor]
"""(clean, change), both (n, ...) -> what is released, (n, ...), each row by itself."""


def post_processed(clean: Tensor, change: Tensor, budget: float, norm: Norm = "sum") -> Tensor:
    """(n, classes) on the simplex, and any change of it -> (n, classes) on the simplex, within `budget` of `clean`.

    Clips at zero, renormalises, and goes from `clean` as far towards the result as the budget allows. Differentiable.
    """
    goal = _renormalised(clean, change)
    return _towards(clean, goal, _within(clean, goal, budget, norm))


def post_processed_keeping_label(
    clean: Tensor, change: Tensor, budget: float, margin: float, norm: Norm = "sum"
) -> Tensor:
    """The same, and the largest entry stays the largest, by `margin`, or by as much as in `clean` where that is less.

    Holds for every row to the last bit: one that rounding would spoil is `clean` itself.
    """
    goal = _renormalised(clean, change)
    # A draw would be for rounding to decide.
    ahead = margin + 4 * torch.finfo(clean.dtype).eps
    share = torch.minimum(_within(clean, goal, budget, norm), kept_label(clean, goal, ahead))
    found = _towards(clean, goal, share)
    same = found.argmax(dim=1, keepdim=True) == clean.argmax(dim=1, keepdim=True)
    return torch.where(same, found, clean)


def kept_label(clean: Tensor, goal: Tensor, margin: float) -> Tensor:
    """(n, classes) each -> (n, 1): the largest t in [0, 1] for which (1 - t) clean + t goal has clean's largest entry
    ahead of every other one by `margin`, or by as much as in `clean` where that is less."""
    top = clean.argmax(dim=1, keepdim=True)
    before = clean.gather(1, top) - clean
    after = goal.gather(1, top) - goal
    wanted = before.clamp(max=margin)
    # A lead falls linearly on the way, so that each competitor has one closed form. The top class itself never binds.
    falls = after < wanted
    share = (before - wanted) / torch.where(falls, before - after, 1)
    return torch.where(falls, share, 1).amin(dim=1, keepdim=True)


def swapped(clean: Tensor, classes: Tensor) -> Tensor:
    """(n, classes) and (n,): the same vectors, each with its largest entry and that of the given class exchanged."""
    top, other = clean.argmax(dim=1, keepdim=True), classes.unsqueeze(1)
    return clean.scatter(1, top, clean.gather(1, other)).scatter(1, other, clean.gather(1, top))


def shrunk(clean: Tensor, change: Tensor, budget: float) -> Tensor:
    """(n, ...) each -> clean + change, with no row of the change longer than `budget` times the row it changes."""
    rows = (len(clean), *(1,) * (clean.ndim - 1))
    allowed = budget * clean.flatten(1).norm(dim=1)
    # The root has no gradient at zero, where nothing has to shrink.
    length = change.flatten(1).square().sum(dim=1).clamp(min=torch.finfo(clean.dtype).tiny).sqrt()
    return clean + change * (allowed / length).clamp(max=1).view(rows)


def misalignment(wanted: Tensor, found: Tensor) -> Tensor:
    """1 - cosine of two vectors: 0 where a step along one is a step along the other, 2 where it undoes it."""
    return 1 - torch.nn.functional.cosine_similarity(wanted, found, dim=0, eps=torch.finfo(found.dtype).tiny)


def longest_descent(mismatch: float, smoothness: float) -> float:
    """How long a step may be at most that still lowers a loss of `smoothness`-Lipschitz gradient g, where it goes along
    another vector, no further than `mismatch` < 1 times |g| from g. By the descent lemma, 2 (1 - c) / (L (1 + c)^2)."""
    return 2 * (1 - mismatch) / (smoothness * (1 + mismatch) ** 2)


def minimised(
    objective: Callable[[Tensor], Tensor], clean: Tensor, step: Step, scale: Tensor | float, steps: int, rate: float
) -> Tensor:
    """What `step` makes of the change of `clean` that lowers the objective, by Adam from no change at all; after each
    of the steps the change is what of it was released.

    objective: what is released -> a scalar; a sum over rows, where rows shall not depend on each other. scale: how
    far a row can go, or (n, 1, ...); a step of Adam is `rate` of it.
    """
    change = torch.zeros_like(clean, requires_grad=True)
    optimizer = torch.optim.Adam([change], lr=rate)
    with torch.enable_grad():
        for _ in range(steps):
            value = objective(step(clean, scale * change))
            (change.grad,) = torch.autograd.grad(value, change)
            optimizer.step()
            with torch.no_grad():
                change.copy_((step(clean, scale * change) - clean) / scale)
    return step(clean, scale * change).detach()


def unit(budget: float, margin: float | None, norm: Norm) -> Step:
    """The post-process unit with these settings; without a margin the label is free."""
    if margin is None:
        return partial(post_processed, budget=budget, norm=norm)
    return partial(post_processed_keeping_label, budget=budget, margin=margin, norm=norm)


def _renormalised(clean: Tensor, change: Tensor) -> Tensor:
    raised = (clean + change).clamp(min=0)
    total = raised.sum(dim=1, keepdim=True)
    # Where nothing is left, there is nowhere to go.
    return torch.where(total > 0, raised / torch.where(total > 0, total, 1), clean)


def _within(clean: Tensor, goal: Tensor, budget: float, norm: Norm) -> Tensor:
    """(n, 1): the largest share of the way that stays within the budget, rounding included."""
    magnitudes = (goal - clean).abs()
    length = magnitudes.sum(dim=1, keepdim=True) if norm == "sum" else magnitudes.amax(dim=1, keepdim=True)
    precision = torch.finfo(clean.dtype).eps
    allowed = max(0.0, budget - precision * (2 + clean.shape[1] * budget))
    return torch.where(length > allowed, allowed / torch.where(length > 0, length, 1), 1)


def _towards(clean: Tensor, goal: Tensor, share: Tensor) -> Tensor:
    return (clean + share * (goal - clean)).clamp(min=0)
