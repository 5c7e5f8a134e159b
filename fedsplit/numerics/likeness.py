"""Images in the size and colours of others."""

import torch
from torch import Tensor
from torch.nn import functional as F

_LUMA = (0.299, 0.587, 0.114)
"""Of red, green and blue in a grey of the same brightness (ITU-R BT.601)."""


def alike(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """(n, any channels, any height, any width) -> (n, *shape) in [0, 1]: differentiable.

    Where the numbers of channels differ all become the grey of the same brightness. Sizes are changed by triangles as
    wide as a pixel of the coarser of the two, so that what shrinks is averaged.
    """
    channels, height, width = shape
    if images.shape[1] != channels:
        luma = torch.tensor(_LUMA) if images.shape[1] == len(_LUMA) else torch.full((images.shape[1],), 1.0).softmax(0)
        images = torch.einsum("nchw,c->nhw", images, luma.to(images))[:, None].expand(-1, channels, -1, -1)
    if images.shape[2:] != (height, width):
        images = F.interpolate(images, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
    return images.clamp(0, 1)


def centred(images: Tensor, height: int, width: int, share: float = 1.0) -> Tensor:
    """The middle of images, (n, channels, ...): as much as has the proportions height / width, and of the sides of
    that this share."""
    had = images.shape[-2], images.shape[-1]
    scale = share * min(had[0] / height, had[1] / width)
    kept = tuple(min(side, max(1, round(scale * part))) for side, part in zip(had, (height, width), strict=True))
    top, left = ((side - part) // 2 for side, part in zip(had, kept, strict=True))
    return images[..., top : top + kept[0], left : left + kept[1]]
