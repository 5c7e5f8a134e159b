"""The dictionary that a sparse-coding layer on images begins with: left as it is, patches of images, or learned."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from fedsplit.errors import DataError
from fedsplit.layers.sparse_coding import SparseCodingLayer
from fedsplit.records.images import Images

_BATCH = 64
_DRAWS_PER_ATOM = 32
_LEAST_DEVIATION = 0.1
"""Of a patch, where the image has one of about 1: a flatter patch is no texture."""

Beginning = Literal["random", "patches", "pretrained"]


@dataclass(frozen=True)
class FirstDictionary:
    """passes, rate: over the images, and of the Hebbian step, where the dictionary is pretrained."""

    beginning: Beginning
    passes: int
    rate: float

    def give(self, layer: SparseCodingLayer, public: Images, rng: Generator) -> None:
        """Changes the layer's dictionary in place. Raises DataError where images are missing, too small or flat."""
        if self.beginning == "random":
            return
        if not len(public):
            remedy = "set roles.public above 0, or use first_dictionary: random"
            raise DataError("is to come from public images, and there are none", at="first_dictionary",
                            value=self.beginning, remedy=remedy)  # fmt: skip
        with torch.no_grad():
            layer.dictionary.copy_(_patches(layer, public.pixels, rng))
        if self.beginning == "pretrained":
            self._learn(layer, public.pixels, rng)

    def _learn(self, layer: SparseCodingLayer, pixels: Tensor, rng: Generator) -> None:
        for _ in range(self.passes):
            for rows in torch.randperm(len(pixels), generator=rng).split(_BATCH):
                images = pixels[rows].to(layer.dictionary)
                layer.hebbian_step(images, layer.solve(images).codes, self.rate)


def _patches(layer: SparseCodingLayer, pixels: Tensor, rng: Generator) -> Tensor:
    """As many patches of standardised images, (n, channels, height, width), as there are atoms, each of unit norm."""
    features, _, kernel, _ = layer.dictionary.shape
    down, across = (side - kernel + 1 for side in pixels.shape[2:])
    if min(down, across) < 1:
        reason = f"public images are smaller than an atom of {kernel} x {kernel} pixels"
        raise DataError(reason, at="first_dictionary", remedy="use larger images or a smaller kernel_size")
    total = len(pixels) * down * across
    draws = torch.randint(total, (_DRAWS_PER_ATOM * features,), generator=rng).unique()
    draws = draws[torch.randperm(len(draws), generator=rng)]
    image, row, column = draws // (down * across), draws // across % down, draws % across
    standardised = layer.standardised(pixels[image].to(layer.dictionary))
    windows = standardised.unfold(2, kernel, 1).unfold(3, kernel, 1)
    found = windows[torch.arange(len(draws)), :, row, column]
    textured = found[found.flatten(1).std(dim=1) > _LEAST_DEVIATION][:features]
    if len(textured) < features:
        reason = f"finds {len(textured)} patches with texture in the public images, for {features} atoms"
        remedy = "use more public images, larger ones, or first_dictionary: random"
        raise DataError(reason, at="first_dictionary", remedy=remedy)
    return textured / torch.linalg.vector_norm(textured, dim=(1, 2, 3), keepdim=True)
