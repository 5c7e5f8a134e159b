"""What the bounds of a scenario say of the leak that a duel is about."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fedsplit.bounds.base import Bound, Channel
from fedsplit.defenses.base import Defense
from fedsplit.federation.exposure import Exposure
from fedsplit.records.leak import Leak
from fedsplit.records.outcome import Limit
from fedsplit.scenario import Duel
from fedsplit.seeding import Seeds

_PROBES = 4


def limits(
    bounds: Sequence[Bound], duel: Duel, defense: Defense, exposed: Sequence[Exposure], images: Tensor
) -> dict[str, Limit]:
    """By the bounds' titles. exposed: of all clients at once, or of each that has a segment of its own, one after the
    other as their targets are among `images`; as the defense has it."""
    return {bound.title: _limit(bound, duel, defense, exposed, images) for bound in bounds}


def _limit(bound: Bound, duel: Duel, defense: Defense, exposed: Sequence[Exposure], images: Tensor) -> Limit:
    if duel.leak != "inference":
        return bound.absent(f"it is about one pass over the targets at the cut, not about the {duel.leak} leak")
    parts = images.split([len(one.rows) for one in exposed])
    found = [
        bound.limit(_channel(one.leak, defense, duel.attack.repeats), part.to(one.leak.auxiliary.images))
        for one, part in zip(exposed, parts, strict=True)
    ]
    total = 0.0
    for part, limit in zip(parts, found, strict=True):
        if limit.value is None:
            return limit
        total += limit.value * len(part) / len(images)
    return bound.known(total)


def _channel(leak: Leak, defense: Defense, repeats: int) -> Channel:
    assert leak.client_weights is not None and leak.client_queries is not None, "the whole leak holds both"
    client = leak.client_weights.broadcast
    variances = [member.noise_variance for member in defense.changing("inference")]
    if not variances and not _as_computed(leak):
        return Channel(client, None)
    known = [variance for variance in variances if variance is not None]
    return Channel(client, sum(known) / repeats if len(known) == len(variances) else None)


@torch.no_grad()
def _as_computed(leak: Leak) -> bool:
    """Whether what is answered is what the client's weights make, but for rounding."""
    assert leak.client_weights is not None and leak.client_queries is not None
    probes = leak.auxiliary.images[:_PROBES]
    return torch.allclose(leak.client_queries(probes, Seeds(0)("limits")), leak.client_weights.broadcast(probes))
