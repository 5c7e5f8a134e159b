"""What the deployed, defended model is worth."""

import torch

from fedsplit.federation.plan import Plan, State
from fedsplit.records.images import Images

_AT_ONCE = 512


@torch.no_grad()
def accuracy(plan: Plan, client: State, server: State, test: Images) -> float:
    """Share of test images whose largest logit is their label, the defense acting as at inference."""
    segments = plan.segments()
    plan.prepare(segments.client, client, training=False)
    plan.prepare(segments.server, server, training=False)
    rng = plan.seeds("evaluation")
    right = 0
    for start in range(0, len(test), _AT_ONCE):
        images = test.pixels[start : start + _AT_ONCE].to(plan.device, plan.dtype)
        smashed = segments.client(images)
        for member in plan.defense.releasing("inference"):
            smashed = member.release(smashed, rng)
        answers = segments.server(smashed).argmax(dim=1).cpu()
        right += int((answers == test.labels[start : start + _AT_ONCE]).sum())
    return right / len(test)
