"""A convolutional dictionary as a linear operator: codes to images by transposed convolution, and its adjoint."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_GRID_PER_DEGREE = 16
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Dictionary:
    """D: codes (n, features, height', width') -> images (n, channels, height, width), and its adjoint.

    atoms: (features, channels, kernel, kernel), of unit norm where it matters. padding: 0, or kernel // 2 where codes
    lie at every pixel.
    """

    atoms: Tensor
    size: tuple[int, int]
    """(height, width) of the images."""
    stride: int = 1
    padding: int = 0

    @property
    def codes(self) -> tuple[int, int, int]:
        """(features, height', width') of the codes of one image."""
        kernel = self.atoms.shape[-1]
        height, width = ((side + 2 * self.padding - kernel) // self.stride + 1 for side in self.size)
        return len(self.atoms), height, width

    def synthesise(self, codes: Tensor) -> Tensor:
        """D codes."""
        height, width = self.size
        _, rows, columns = self.codes
        kernel, border = self.atoms.shape[-1], 2 * self.padding
        # Pixels at the far end that no code's window reaches.
        rest = (
            height - ((rows - 1) * self.stride + kernel - border),
            width - ((columns - 1) * self.stride + kernel - border),
        )
        return F.conv_transpose2d(codes, self.atoms, stride=self.stride, padding=self.padding, output_padding=rest)

    def correlate(self, images: Tensor, bias: Tensor | None = None) -> Tensor:
        """The adjoint: D' images, plus a number per feature."""
        return F.conv2d(images, self.atoms, bias, stride=self.stride, padding=self.padding)

    def bound(self) -> float:
        """An upper bound, a few percent above, of the largest eigenvalue of D'D, whatever the size of the images.

        Zeros around the image only take away from the operator on the infinite plane, whose spectrum is that of its
        symbol. For any fixed vector the symbol's quadratic form is a trigonometric polynomial of degree kernel - 1 in
        each direction; one of degree d on a grid of m points is nowhere above its largest sample / cos(pi d / m).
        """
        phases = _phases_of(self.atoms.detach().float(), self.stride)
        degree = phases.shape[-1] - 1
        grid = _GRID_PER_DEGREE * max(1, degree)
        symbol = torch.fft.rfft2(phases, s=(grid, grid)).permute(2, 3, 0, 1).flatten(0, 1)
        wide = symbol if symbol.shape[1] <= symbol.shape[2] else symbol.mT
        largest = torch.linalg.eigvalsh(wide @ wide.mH).max().item()
        return (1 + _ROUNDING) * largest / math.cos(math.pi * degree / grid) ** 2


def normalised(weights: Tensor) -> Tensor:
    """(features, channels, kernel, kernel) -> the same with every feature of unit norm."""
    return weights / (torch.linalg.vector_norm(weights, dim=(1, 2, 3), keepdim=True) + 1e-12)


def _phases_of(atoms: Tensor, stride: int) -> Tensor:
    """A strided operator is one of stride 1 from features to the phases of the image."""
    if stride == 1:
        return atoms
    missing = -atoms.shape[-1] % stride
    return F.pixel_unshuffle(F.pad(atoms, (0, missing, 0, missing)), stride)
