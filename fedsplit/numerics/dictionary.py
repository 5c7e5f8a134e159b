"""A convolutional dictionary as a linear operator: codes to images by transposed convolution, and its adjoint."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_GRID_PER_DEGREE = 16
_ROUNDING = 1e-4
_SQUARINGS = 4


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
        real, imaginary = _symbol(phases, grid)
        # D D* is hermitian: its real part and its imaginary one, in one product each.
        both = torch.cat([real, imaginary], dim=2)
        turned = torch.cat([imaginary, -real], dim=2)
        largest = _largest_eigenvalue(both @ both.mT, turned @ both.mT)
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


def _symbol(atoms: Tensor, grid: int) -> tuple[Tensor, Tensor]:
    """The atoms' Fourier transform on half a grid x grid plane, real and imaginary: (points, m, n), m <= n of features
    and channels. The other half is its conjugate."""
    features, channels, kernel, _ = atoms.shape
    offsets = torch.arange(kernel, device=atoms.device)
    down, right = torch.arange(grid, device=atoms.device), torch.arange(grid // 2 + 1, device=atoms.device)
    turns = (down[:, None] * offsets % grid)[:, None, :, None] + (right[:, None] * offsets % grid)[None, :, None, :]
    angle = (2 * math.pi / grid) * turns.flatten(0, 1).flatten(1).to(atoms)
    wide = atoms if features <= channels else atoms.transpose(0, 1)
    flat = wide.flatten(2).flatten(0, 1)
    shape = (len(angle), min(features, channels), max(features, channels))
    return (angle.cos() @ flat.T).view(shape), -(angle.sin() @ flat.T).view(shape)


def _largest_eigenvalue(real: Tensor, imaginary: Tensor) -> float:
    """Of all the hermitian matrices real + i imaginary, none of them with an eigenvalue below 0: (points, m, m)."""
    power_real, power_imaginary, power = real, imaginary, 1
    for _ in range(_SQUARINGS):
        # Eigenvalues are asked for only where the largest can be. That of A = B^p is between |A| (Frobenius, a bound
        # from above) and |A|^2 / trace A.
        square = power_real.square().sum(dim=(1, 2)) + power_imaginary.square().sum(dim=(1, 2))
        trace = power_real.diagonal(dim1=1, dim2=2).sum(dim=1)
        least = (square / trace.clamp(min=torch.finfo(trace.dtype).tiny)).max()
        likely = square.sqrt() >= (1 - power * _ROUNDING) * least
        real, imaginary = real[likely], imaginary[likely]
        scale = least.clamp(min=torch.finfo(trace.dtype).tiny)
        one, other = power_real[likely] / scale, power_imaginary[likely] / scale
        power_real, power_imaginary, power = one @ one - other @ other, one @ other + other @ one, 2 * power
    return float(torch.linalg.eigvalsh(torch.complex(real, imaginary)).max())
