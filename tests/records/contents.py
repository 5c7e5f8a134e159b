"""Everything that a leak hands over, as tensors."""

from dataclasses import fields

from torch import Tensor, nn

from fedsplit.records.leak import Auxiliary, ClientSegment, Leak, Pairs


def tensors_of(leak: Leak) -> tuple[Tensor, ...]:
    """Every tensor in the leak, parameters and buffers of its segments included."""
    found: list[Tensor] = []
    holders: list[object] = [getattr(leak, field.name) for field in fields(leak)]
    while holders:
        holder = holders.pop()
        if isinstance(holder, Tensor):
            found.append(holder)
        elif isinstance(holder, nn.Module):
            found.extend(holder.state_dict().values())
        elif isinstance(holder, tuple):
            holders.extend(holder)
        elif isinstance(holder, dict):
            holders.extend(holder.values())
        elif isinstance(holder, Auxiliary | Pairs | ClientSegment):
            holders.extend(vars(holder).values())
    return tuple(found)
