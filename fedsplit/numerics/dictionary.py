"""A convolutional dictionary as a linear operator: codes to images by transposed convolution, and its adjoint.

On a CPU a convolution of a few channels runs at a small part of the speed of one of many. An image can be read as a
quarter as many pixels with four times the channels (its phases): the operator is then the same sum in another order,
over more channels. `phases` says how; what goes in and comes out of `synthesise` and `correlate` is in that order.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_FEW_CHANNELS = 8
_GRID_PER_DEGREE = 16
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Dictionary:
    """D: codes (n, features, height', width') -> images (n, channels, height, width), and its adjoint.

    atoms: (features, channels, kernel, kernel), of unit norm where it matters. padding: 0, or kernel // 2 where codes
    lie at every pixel. phases: 1, or 2 where codes and images are split into their 2 x 2 phases.
    """

    atoms: Tensor
    size: tuple[int, int]
    """(height, width) of the images."""
    stride: int = 1
    padding: int = 0
    phases: int = 1

    @property
    def codes(self) -> tuple[int, int, int]:
        """(features, height', width') of the codes of one image, not in phases."""
        kernel = self.atoms.shape[-1]
        height, width = ((side + 2 * self.padding - kernel) // self.stride + 1 for side in self.size)
        return len(self.atoms), height, width

    def synthesise(self, codes: Tensor) -> Tensor:
        """D codes."""
        if self.phases > 1:
            return self._spread(codes)
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

    def in_phases(self) -> "Dictionary":
        """The same operator on phases, where that is possible and faster; else itself."""
        sides = (*self.size, *self.codes[1:])
        if self.phases > 1 or self.stride > 1 or self.atoms.shape[1] > _FEW_CHANNELS or any(side % 2 for side in sides):
            return self
        blocks = -(-self.padding // 2)
        last = (self.atoms.shape[-1] - self.padding) // 2
        length = 2 * (blocks + last + 1)
        start = 2 * blocks - self.padding
        moved = [self._moved(start + row, start + column, length) for row in (0, 1) for column in (0, 1)]
        atoms = torch.stack([F.pixel_unshuffle(canvas, 2) for canvas in moved], dim=1).flatten(0, 1)
        size = (self.size[0] // 2, self.size[1] // 2)
        return Dictionary(atoms.contiguous(memory_format=torch.channels_last), size, 1, blocks, phases=2)

    def split(self, tensor: Tensor) -> Tensor:
        """Images or codes -> their phases."""
        split = F.pixel_unshuffle(tensor, self.phases) if self.phases > 1 else tensor
        return split.contiguous(memory_format=torch.channels_last)

    def join(self, tensor: Tensor) -> Tensor:
        """The inverse of `split`."""
        joined = F.pixel_shuffle(tensor, self.phases) if self.phases > 1 else tensor
        return joined.contiguous()

    def _spread(self, codes: Tensor) -> Tensor:
        # Few channels leave a convolution's vectors empty. One matrix product gives what every code adds to each place
        # of its window, and the places are summed by shifting.
        features, channels, kernel, _ = self.atoms.shape
        taps = codes.permute(0, 2, 3, 1) @ self.atoms.permute(0, 2, 3, 1).reshape(features, -1)
        taps = taps.unflatten(3, (kernel, kernel, channels))
        height, width = self.size
        images = codes.new_zeros((len(codes), height, width, channels))
        for row in range(kernel):
            to_row, from_row = _overlap(row - self.padding, height, codes.shape[2])
            for column in range(kernel):
                to_column, from_column = _overlap(column - self.padding, width, codes.shape[3])
                images[:, to_row, to_column] += taps[:, from_row, from_column, row, column]
        return images.permute(0, 3, 1, 2)

    def _moved(self, row: int, column: int, length: int) -> Tensor:
        kernel = self.atoms.shape[-1]
        return F.pad(self.atoms, (column, length - kernel - column, row, length - kernel - row))


def _overlap(shift: int, length: int, count: int) -> tuple[slice, slice]:
    """Where `count` things moved by `shift` lie in a line of `length`, and which of them those are."""
    start, stop = max(0, shift), min(length, count + shift)
    return slice(start, stop), slice(start - shift, stop - shift)


def normalised(weights: Tensor) -> Tensor:
    """(features, channels, kernel, kernel) -> the same with every feature of unit norm."""
    return weights / (torch.linalg.vector_norm(weights, dim=(1, 2, 3), keepdim=True) + 1e-12)


def _phases_of(atoms: Tensor, stride: int) -> Tensor:
    """A strided operator is one of stride 1 from features to the phases of the image."""
    if stride == 1:
        return atoms
    missing = -atoms.shape[-1] % stride
    return F.pixel_unshuffle(F.pad(atoms, (0, missing, 0, missing)), stride)
