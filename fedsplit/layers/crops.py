"""Random views of images: a part of each, scaled to its full size, perhaps mirrored."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Crops:
    """area: least and greatest share of the image that is kept. ratio: least and greatest width / height of it,
    relative to the image's. mirrored: whether every second view, by chance, is."""

    area: tuple[float, float]
    ratio: tuple[float, float] = (1.0, 1.0)
    mirrored: bool = False

    def draw(self, images: Tensor, rng: Generator) -> Tensor:
        """(n, channels, height, width) -> the same shape, another part of each image: differentiable in the images.

        Areas are uniform, ratios uniform in their logarithm; sides end at those of the image.
        """
        # As many numbers for each image, whatever is asked for, so that one setting does not change what another draws.
        area, ratio, across, down, side = torch.rand(5, len(images), generator=rng).to(images)
        area = self.area[0] + (self.area[1] - self.area[0]) * area
        bounds = torch.tensor(self.ratio, dtype=images.dtype, device=images.device).log()
        stretch = (bounds[0] + (bounds[1] - bounds[0]) * ratio).exp().sqrt()
        width, height = ((area.sqrt() * part).clamp(max=1.0) for part in (stretch, 1 / stretch))
        # In coordinates from -1 to 1, a part of this size can have its centre so far out.
        x, y = (1 - width) * (2 * across - 1), (1 - height) * (2 * down - 1)
        sign = torch.where(side < 0.5, -1.0, 1.0).to(images) if self.mirrored else torch.ones_like(side)
        zero = torch.zeros_like(x)
        rows = torch.stack([torch.stack([sign * width, zero, x], 1), torch.stack([zero, height, y], 1)], 1)
        grid = F.affine_grid(rows, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
