"""How smashed data lies over the image: at which sites the same small map from features to pixels may be used."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from torch import Tensor
from torch.nn import functional as F

from fedsplit.records.images import Shape

_KERNEL = 5
_LARGEST_STRIDE = 8


@dataclass(frozen=True)
class Sites:
    """One layout. cut: the shape of one row of smashed data. image: (channels, height, width).

    count: sites per image. features: values of the smashed data that a site sees. outputs: pixel values it gives.
    gather: (n, *cut) -> (n, count, features), linear. scatter: (n, *image) -> (n, count, outputs).
    assemble: (n, count, outputs) -> (n, *image), the inverse of scatter.
    apply: (n, *cut), (any, features), (any,) -> (n, count, any), the same linear layer at every site.
    """

    name: str
    cut: tuple[int, ...]
    image: Shape
    count: int
    features: int
    outputs: int
    gather: Callable[[Tensor], Tensor]
    scatter: Callable[[Tensor], Tensor]
    assemble: Callable[[Tensor], Tensor]
    apply: Callable[[Tensor, Tensor, Tensor | None], Tensor]


def sites_of(cut: tuple[int, ...], image: Shape) -> tuple[Sites, ...]:
    """Every layout that the shapes allow; where there are several, data must choose."""
    if len(cut) != 3:
        return (whole(cut, image),)
    (_, height, width), (_, rows_of_image, columns) = cut, image
    found: list[Sites] = []
    if height == rows_of_image:
        found.append(rows(cut, image))
    down, across = max(1, round(rows_of_image / height)), max(1, round(columns / width))
    if height <= rows_of_image and width <= columns and down == across <= _LARGEST_STRIDE:
        found.append(patches(cut, image, stride=down))
    return tuple(found) or (whole(cut, image),)


def whole(cut: tuple[int, ...], image: Shape) -> Sites:
    """One site that sees everything: for flat smashed data, where no place is known."""

    def gather(smashed: Tensor) -> Tensor:
        return smashed.flatten(1)[:, None]

    return Sites(
        name="the whole image",
        cut=cut,
        image=image,
        count=1,
        features=prod(cut),
        outputs=prod(image),
        gather=gather,
        scatter=lambda images: images.flatten(1)[:, None],
        assemble=lambda pixels: pixels[:, 0].unflatten(1, image),
        apply=lambda smashed, weight, bias: F.linear(gather(smashed), weight, bias),
    )


def rows(cut: tuple[int, ...], image: Shape) -> Sites:
    """A site per image row: for a layer that acts on the last axis, so that rows never meet."""
    depth, height, width = cut
    channels, _, columns = image

    def gather(smashed: Tensor) -> Tensor:
        return smashed.transpose(1, 2).flatten(2)

    return Sites(
        name="rows",
        cut=cut,
        image=image,
        count=height,
        features=depth * width,
        outputs=channels * columns,
        gather=gather,
        scatter=lambda images: images.transpose(1, 2).flatten(2),
        assemble=lambda pixels: pixels.unflatten(2, (channels, columns)).transpose(1, 2),
        apply=lambda smashed, weight, bias: F.linear(gather(smashed), weight, bias),
    )


def patches(cut: tuple[int, ...], image: Shape, stride: int) -> Sites:
    """A site per place of a feature map: it sees the 5 x 5 places around it and gives stride x stride pixels.

    A map that lost its border to unpadded convolutions is padded back with zeros, centred.
    """
    depth, height, width = cut
    channels, tall, wide = image
    places_down, places_across = -(-tall // stride), -(-wide // stride)
    down, across = places_down - height, places_across - width
    border = (across // 2, across - across // 2, down // 2, down - down // 2)
    overhang = (0, places_across * stride - wide, 0, places_down * stride - tall)

    def assemble(pixels: Tensor) -> Tensor:
        squares = pixels.mT.unflatten(2, (places_down, places_across))
        return F.pixel_shuffle(squares, stride)[:, :, :tall, :wide]

    def apply(smashed: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # A convolution: the same as on gathered patches, without a copy of every pixel for each of them.
        kernel = weight.view(-1, depth, _KERNEL, _KERNEL)
        return F.conv2d(F.pad(smashed, border), kernel, bias, padding=_KERNEL // 2).flatten(2).mT

    return Sites(
        name="patches",
        cut=cut,
        image=image,
        count=places_down * places_across,
        features=depth * _KERNEL**2,
        outputs=channels * stride**2,
        gather=lambda smashed: F.unfold(F.pad(smashed, border), _KERNEL, padding=_KERNEL // 2).mT,
        scatter=lambda images: F.pixel_unshuffle(F.pad(images, overhang), stride).flatten(2).mT,
        assemble=assemble,
        apply=apply,
    )
