"""What the deployed, defended model is worth, and how sparse what its client segment computes is."""

from collections import Counter
from collections.abc import Sequence
from itertools import product

import torch

from fedsplit.component import Settings
from fedsplit.defenses.base import Deployed
from fedsplit.federation.information import information
from fedsplit.federation.plan import Plan, State
from fedsplit.records.images import Images
from fedsplit.records.outcome import Activity, Information
from fedsplit.seeding import drawn_from

_AT_ONCE = 512


class Evaluation(Settings):
    """One pass over the test images, the defense acting as at inference."""

    accuracy: float
    """Share of test images whose largest released confidence is that of their label; the mean over clients where each
    has its own segment."""
    activity: dict[str, Activity]
    """By block of the client segment, in order, before the defense's release; the mean in the same way."""
    information: dict[str, Information]
    """By block of the whole model, where some blocks were frozen before training; the mean in the same way."""


@torch.no_grad()
def evaluate(
    plan: Plan,
    clients: Sequence[State],
    server: State,
    test: Images,
    deployed: Sequence[Sequence[Deployed]] | None = None,
) -> Evaluation:
    """Accuracy and activity of the deployed segments. clients: the state of all that a client holds, one for each
    deployed client segment; every one of them answers all test images. deployed: by segment, how those answer that have
    it, who share the images out; None where nobody does more than release."""
    segments = plan.segments()
    plan.prepare(segments.server, server, training=False)
    rng = plan.seeds("evaluation")
    right = 0
    active: Counter[str] = Counter()
    values: Counter[str] = Counter()
    answering = deployed or [(plan.defense.released("inference"),)] * len(clients)
    for (client, holders), start in product(zip(clients, answering, strict=True), range(0, len(test), _AT_ONCE)):
        plan.prepare(segments.home.whole, client, training=False)
        images = smashed = test.pixels[start : start + _AT_ONCE].to(plan.device, plan.dtype)
        # Block by block: all features at once may be many times larger than the largest of them.
        for name, block in segments.client.blocks():
            with drawn_from(rng):
                smashed = block(smashed)
            active[name] += int(smashed.count_nonzero())
            values[name] += smashed.numel()
        dealt = [(holder, slice(place, None, len(holders))) for place, holder in enumerate(holders)][: len(images)]
        released = torch.empty_like(smashed)
        for holder, rows in dealt:
            released[rows] = holder.release(smashed[rows], rng)
        with drawn_from(rng):
            features = segments.server(released)
            logits = features if segments.head is None else segments.head(features)
            confidences = logits.softmax(dim=1)
            answers = torch.empty_like(confidences)
            for holder, rows in dealt:
                answers[rows] = holder.answer(images[rows], confidences[rows])
        right += int((answers.argmax(dim=1).cpu() == test.labels[start : start + _AT_ONCE]).sum())
    pixels = test.pixels.numel() * len(clients)
    activity = {name: Activity(share=active[name] / values[name], per_pixel=active[name] / pixels) for name in values}
    told = information(plan, clients, server, test) if plan.frozen else {}
    return Evaluation(accuracy=right / (len(test) * len(clients)), activity=activity, information=told)
