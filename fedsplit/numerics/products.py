"""Products with a convolutional dictionary at the speed of the arithmetic, without a graph, for iterative solvers.

A convolution of a few channels takes a CPU as long as one of many. Where many atoms share them, both products are one
matrix product each over the windows of the images. Where many atoms are of many channels, or large, they are convolved
by the Fourier transforms of tiles; elsewhere they are convolutions over channels that lie together.
"""

from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from fedsplit.numerics.dictionary import Dictionary

_ATOMS_PER_FURTHER_CHANNEL = 12
"""Cutting windows takes time by the channel, and a convolution by the atom. Measured with atoms of 5 x 5."""
_PLACES_PER_TRANSFORM = 120
"""A transform is of a channel or an atom; what it spares is multiplied at every place of an atom for every channel."""


class Products(Protocol):
    """D and its adjoint D'. Codes: (n, features, height', width'). Images: (n, channels, height, width)."""

    def arrange(self, tensor: Tensor) -> Tensor:
        """Codes or images, as they are fastest to work on."""
        ...

    def synthesise(self, codes: Tensor) -> Tensor:
        """D codes."""
        ...

    def residual(self, images: Tensor, codes: Tensor) -> Tensor:
        """What D codes leaves of the images."""
        ...

    def correlate(self, images: Tensor, price: float = 0.0, out: Tensor | None = None) -> Tensor:
        """D' images - price; `out` has room for them that may be used."""
        ...

    def descend(self, codes: Tensor, residual: Tensor, step: float, price: float) -> Tensor:
        """Adds step (D' residual - price) to the codes, in their place."""
        ...


def products(dictionary: Dictionary) -> Products:
    """The fastest way for this dictionary, on as many threads as torch uses where it is called."""
    if torch.get_num_threads() == 1 and faster_alone(dictionary):
        return _Transforms(dictionary)
    return _Windows(dictionary) if _windows_pay(dictionary) else _Convolutions(dictionary)


def faster_alone(dictionary: Dictionary) -> bool:
    """Whether threads that work on a batch each have its products sooner than if they divide every product."""
    features, channels, kernel, _ = dictionary.atoms.shape
    known = dictionary.atoms.device.type == "cpu" and dictionary.atoms.dtype == torch.float32 and dictionary.stride == 1
    # Smaller atoms have transforms of another kind, which round ten times as coarsely.
    known &= kernel > 3
    pays = kernel**2 * features * channels > _PLACES_PER_TRANSFORM * (features + channels)
    return known and pays and _transforms_at_hand()


def _windows_pay(dictionary: Dictionary) -> bool:
    features, channels = dictionary.atoms.shape[:2]
    return features > _ATOMS_PER_FURTHER_CHANNEL * (channels - 1)


@cache
def _transforms_at_hand() -> bool:
    return torch.backends.nnpack.is_available()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


class _Convolutions:
    """Over channels that lie together."""

    def __init__(self, dictionary: Dictionary) -> None:
        self._dictionary = dictionary

    def arrange(self, tensor: Tensor) -> Tensor:
        return tensor.contiguous(memory_format=torch.channels_last)

    def synthesise(self, codes: Tensor) -> Tensor:
        return self._dictionary.synthesise(codes)

    def residual(self, images: Tensor, codes: Tensor) -> Tensor:
        return images - self._dictionary.synthesise(codes)

    def correlate(self, images: Tensor, price: float = 0.0, out: Tensor | None = None) -> Tensor:
        del out
        # The price rides on the convolution as its bias, and costs no pass of its own.
        bias = images.new_full((len(self._dictionary.atoms),), -price) if price else None
        return self._dictionary.correlate(self.arrange(images), bias)

    def descend(self, codes: Tensor, residual: Tensor, step: float, price: float) -> Tensor:
        return codes.add_(self.correlate(residual, price), alpha=step)


class _Transforms:
    """By the Fourier transforms of overlapping tiles, which know no size of an atom.

    NNPACK's, on one thread: the threads that it would start stay, and would wait for those that all else divides its
    work among.
    """

    def __init__(self, dictionary: Dictionary) -> None:
        self._atoms = dictionary.atoms.contiguous()
        # Codes to images is a convolution, too: with the atoms turned, and with the border that the other one lost.
        self._turned = dictionary.atoms.flip(2, 3).transpose(0, 1).contiguous()
        self._border = dictionary.padding
        self._border_of_codes = dictionary.atoms.shape[-1] - 1 - dictionary.padding

    def arrange(self, tensor: Tensor) -> Tensor:
        return tensor.contiguous()

    def synthesise(self, codes: Tensor) -> Tensor:
        return _convolved(codes, self._turned, None, self._border_of_codes)

    def residual(self, images: Tensor, codes: Tensor) -> Tensor:
        return images - self.synthesise(codes)

    def correlate(self, images: Tensor, price: float = 0.0, out: Tensor | None = None) -> Tensor:
        del out
        bias = images.new_full((len(self._atoms),), -price) if price else None
        return _convolved(images, self._atoms, bias, self._border)

    def descend(self, codes: Tensor, residual: Tensor, step: float, price: float) -> Tensor:
        return codes.add_(self.correlate(residual, price), alpha=step)


def _convolved(tensor: Tensor, atoms: Tensor, bias: Tensor | None, border: int) -> Tensor:
    return torch.ops.aten._nnpack_spatial_convolution(tensor.contiguous(), atoms, bias, [border, border])


class _Windows:
    """What every code adds to each place of its window is a matrix product; the places are summed by shifting.

    The windows of a batch are many times its size. They lie in memory that is kept from product to product: fresh
    memory costs more than the arithmetic.
    """

    def __init__(self, dictionary: Dictionary) -> None:
        self._dictionary = dictionary
        features, channels, kernel, _ = dictionary.atoms.shape
        flat = dictionary.atoms.flatten(1)
        (_, rows, columns), (height, width), border = dictionary.codes, dictionary.size, 2 * dictionary.padding
        # With one more place in every window, where the price goes.
        self._atoms = torch.cat([flat, flat.new_ones(features, 1)], dim=1)
        self._adjoint = flat.T.contiguous()
        self._padded = _Kept(flat.new_zeros(0, channels, height + border, width + border))
        self._windows = _Kept(flat.new_zeros(0, flat.shape[1] + 1, rows * columns))
        self._places = _Kept(flat.new_zeros(0, flat.shape[1], rows * columns))
        self._strips = _Kept(flat.new_zeros(0, channels, kernel, height, columns))

    def arrange(self, tensor: Tensor) -> Tensor:
        return tensor.contiguous()

    def synthesise(self, codes: Tensor) -> Tensor:
        return self._add(codes.new_zeros((len(codes), self._dictionary.atoms.shape[1], *self._dictionary.size)), codes)

    def residual(self, images: Tensor, codes: Tensor) -> Tensor:
        return self._add(images.neg(), codes).neg_()

    def correlate(self, images: Tensor, price: float = 0.0, out: Tensor | None = None) -> Tensor:
        codes = images.new_empty((len(images), *self._dictionary.codes)) if out is None else out
        torch.bmm(self._atoms.expand(len(images), -1, -1), self._cut(images, -price), out=codes.flatten(2))
        return codes

    def descend(self, codes: Tensor, residual: Tensor, step: float, price: float) -> Tensor:
        flat, atoms = codes.flatten(2), self._atoms.expand(len(codes), -1, -1)
        torch.baddbmm(flat, atoms, self._cut(residual, -price), alpha=step, out=flat)
        return codes

    def _add(self, images: Tensor, codes: Tensor) -> Tensor:
        """Adds D codes to the images, in their place."""
        count, _, rows, columns = codes.shape
        _, channels, kernel, _ = self._dictionary.atoms.shape
        stride, padding, (height, width) = self._dictionary.stride, self._dictionary.padding, self._dictionary.size
        places = self._places.of(count)
        torch.bmm(self._adjoint.expand(count, -1, -1), codes.flatten(2), out=places)
        places = places.view(count, channels, kernel, kernel, rows, columns)
        # First down, where a shift moves whole rows, then to the right.
        strips = self._strips.of(count).zero_()
        for row in range(kernel):
            to, own = _overlap(row - padding, stride, height, rows)
            strips[:, :, :, to].add_(places[:, :, row, :, own])
        for column in range(kernel):
            to, own = _overlap(column - padding, stride, width, columns)
            images[:, :, :, to].add_(strips[:, :, column, :, own])
        return images

    def _cut(self, images: Tensor, last: float) -> Tensor:
        """(n, channels, height, width) -> the windows, (n, channels x kernel x kernel + 1, height' x width')."""
        _, channels, kernel, _ = self._dictionary.atoms.shape
        count, stride, padding = len(images), self._dictionary.stride, self._dictionary.padding
        padded = self._padded.of(count)
        height, width = self._dictionary.size
        padded[:, :, padding : padding + height, padding : padding + width] = images
        windows = self._windows.of(count)
        places = windows[:, :-1].view(count, channels, kernel, kernel, *self._dictionary.codes[1:])
        places.copy_(padded.unfold(2, kernel, stride).unfold(3, kernel, stride).permute(0, 1, 4, 5, 2, 3))
        windows[:, -1] = last
        return windows


class _Kept:
    """Memory for any number of samples; zero at first, and then what was left in it."""

    def __init__(self, none: Tensor) -> None:
        self._samples = none

    def of(self, count: int) -> Tensor:
        if len(self._samples) < count:
            self._samples = self._samples.new_zeros((count, *self._samples.shape[1:]))
        return self._samples[:count]


def _overlap(first: int, stride: int, length: int, count: int) -> tuple[slice, slice]:
    """Where `count` things, the first at `first` and the others every `stride`, lie in a line of `length`, and which of
    them those are."""
    skipped = max(0, -(first // stride))
    kept = max(skipped, min(count, -(-(length - first) // stride)))
    start = first + stride * skipped
    return slice(start, start + stride * (kept - skipped), stride), slice(skipped, kept)
