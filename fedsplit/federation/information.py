"""Which blocks a classification hangs on, and which an inversion (after Ho, Hao, Chandrasegaran, Nguyen, Cheung, "Model
inversion robustness: can transfer learning help?", CVPR 2024)."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from fedsplit.federation.plan import Plan, State
from fedsplit.numerics.fisher import Loss, fisher_diagonal
from fedsplit.records.images import Images
from fedsplit.records.outcome import Information
from fedsplit.seeding import drawn_from
from fedsplit.split import Segment, Segments

_IMAGES = 32
_STEPS = (0.0, 0.25, 0.5, 0.75)
"""How far an attack has come on the straight way from the mean image to the true one."""

_Shares = dict[str, float]


@torch.enable_grad()
def information(plan: Plan, clients: Sequence[State], server: State, test: Images) -> dict[str, Information]:
    """By block with parameters, but for the last: its share of the Fisher information of both losses, on some test
    images, without the defense's release; the mean over clients where each has its own segment.

    Classification: cross-entropy of the true label. Inversion: at images that an attack could have by then, the squared
    error of the last hidden features against those of the true image, which is what an attack descends that has the
    model and looks behind it; the shares of every step count alike, though errors fall. Empty where a loss hangs on no
    block, as in a network that gives constants.
    """
    segments = plan.segments()
    plan.prepare(segments.server, server, training=False)
    chosen = test.at(torch.randperm(len(test), generator=plan.seeds("information"))[:_IMAGES])
    found: list[tuple[_Shares, _Shares]] = []
    for client in clients:
        plan.prepare(segments.home.whole, client, training=False)
        with drawn_from(plan.seeds("information", "forward")):
            found.append(_profiles(plan, segments, chosen, test.pixels.mean(dim=0)))
    if not all(shares for both in found for shares in both):
        return {}
    return {
        name: Information(
            classification=sum(classification[name] for classification, _ in found) / len(found),
            inversion=sum(inversion[name] for _, inversion in found) / len(found),
            frozen=name in plan.frozen,
        )
        for name in found[0][0]
    }


def _profiles(plan: Plan, segments: Segments, chosen: Images, mean: Tensor) -> tuple[_Shares, _Shares]:
    whole = segments.whole.requires_grad_()
    *blocks, _ = whole.blocks()
    hidden = Segment(OrderedDict(blocks))

    def misread(image: Tensor, label: Tensor) -> Tensor:
        return functional.cross_entropy(whole(image), label)

    def mismatch(guess: Tensor, image: Tensor) -> Tensor:
        return (hidden(guess) - hidden(image).detach()).square().sum()

    images, start = chosen.pixels.to(plan.device, plan.dtype), mean.to(plan.device, plan.dtype)
    classification = _shares(misread, hidden, images, chosen.labels.to(plan.device))
    every = (_shares(mismatch, hidden, start + step * (images - start), images) for step in _STEPS)
    # Where hardly a unit answers to the mean image, a step may say nothing.
    steps = [shares for shares in every if shares]
    return classification, {name: sum(step[name] for step in steps) / len(steps) for name in classification if steps}


def _shares(loss: Loss, hidden: Segment, inputs: Tensor, targets: Tensor) -> _Shares:
    """Of each block's mean over samples and parameters; empty where these are zero, or not finite."""
    squares = fisher_diagonal(loss, dict(hidden.named_parameters(remove_duplicate=False)), inputs, targets)
    owned = {name: [f"{name}.{own}" for own, _ in block.named_parameters()] for name, block in hidden.blocks()}
    means = {
        name: float(torch.cat([squares[own].flatten() for own in names]).mean())
        for name, names in owned.items()
        if names
    }
    total = sum(means.values())
    return {name: mean / total for name, mean in means.items()} if 0 < total < float("inf") else {}
