"""The nearest point of an l1 ball (Duchi, Shalev-Shwartz, Singer and Chandra, "Efficient projections onto the l1-ball
for learning in high dimensions", ICML 2008)."""

import torch
from torch import Tensor


def into_l1_ball(points: Tensor, radius: Tensor) -> Tensor:
    """(n, d), (n,) -> (n, d), for each row the nearest one whose absolute values sum to at most its radius.

    A row outside loses the same amount in every entry, as far as there is something to lose; a row inside comes back as
    it is. The sums are in double precision.
    """
    sizes = points.abs()
    sums = sizes.double().sum(dim=1)
    falling = sizes.double().sort(dim=1, descending=True).values
    # How much each entry would lose if the largest ones up to this were those that are left.
    count = torch.arange(1, points.shape[1] + 1, device=points.device)
    losses = (falling.cumsum(dim=1) - radius.double()[:, None]) / count
    left = (falling > losses).sum(dim=1, keepdim=True).clamp(min=1)
    loss = losses.gather(1, left - 1)
    shrunk = (points.sign() * (sizes.double() - loss).clamp(min=0)).to(points)
    return torch.where((sums > radius)[:, None], shrunk, points)
