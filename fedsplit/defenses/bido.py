"""Bilateral dependency optimisation (Peng, Liu, Zhang, Lan, Ye, Liu, Han, KDD 2022)."""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor

from fedsplit.defenses.base import Defense
from fedsplit.numerics.dependence import class_kernel, coco, gaussian_kernel, hsic
from fedsplit.records.step import ClientStep
from fedsplit.split import Segments

Measure = Literal["hsic", "coco"]
_MEASURES: Mapping[Measure, Callable[[Tensor, Tensor], Tensor]] = {"hsic": hsic, "coco": coco}


class Bido(Defense):
    """Trains the client's blocks to depend less on the images and more on the labels, over each batch.

    Meant against whoever inverts the whole model. In split learning it reaches the blocks of the party that holds the
    images and no others: those of the server, which the published defense covers too, are never beside an image. Less
    dependence does not mean less leakage, as later work found; merely smaller features depend less, by either measure.
    And a batch of few rows says nothing about it: even features of pure noise then seem to depend on both.
    """

    measure: Measure = "hsic"
    """hsic: counts the directions that both vary in, each as one but for faint ones. coco: the larger, the more."""
    input_weight: NonNegativeFloat
    """Of the dependence between images and each block's features. Published: 0.05 with hsic (CelebA), 1 with coco
    (MNIST). Beside a small `label_weight` it can leave a network without normalisation no features at all."""
    label_weight: NonNegativeFloat
    """Of the dependence between each block's features and labels, which is rewarded. Published: 0.5 with hsic, 50 with
    coco."""
    blocks: tuple[str, ...] = ()
    """Blocks of the client segment that it acts on. Empty: all of them, as in the paper's formula. The published
    networks have one for each stage, behind its pooling; nothing in a model says where a stage ends."""
    kernel_width: PositiveFloat = 5.0
    """Of the Gaussian kernels, in units of pixels and activations: of the root mean square difference of two samples.
    Where it is far wider than samples differ, as published, coco sees little but linear dependence."""

    @model_validator(mode="after")
    def _weighs_something(self) -> "Bido":
        if self.input_weight == self.label_weight == 0:
            raise ValueError("both weights are zero, so it would do nothing: set input_weight or label_weight")
        return self

    def refuses(self, segments: Segments, before: tuple[Defense, ...] = ()) -> str:
        """Blocks that are not the client's."""
        del before
        own = segments.client.names
        strangers = [name for name in self.blocks if name not in own]
        return (
            f"acts on blocks of the client segment ({', '.join(own)}), and {strangers[0]} is none" if strangers else ""
        )

    def client_penalty(self, step: ClientStep) -> Tensor:
        """A scalar, below zero where dependence on labels outweighs that on images."""
        measure, outputs = _MEASURES[self.measure], dict(step.features)
        images = gaussian_kernel(step.images, self.kernel_width)
        labels = class_kernel(step.labels, images.dtype)
        features = [gaussian_kernel(outputs[name], self.kernel_width) for name in self.blocks or outputs]
        on_images = torch.stack([measure(images, kernel) for kernel in features]).sum()
        on_labels = torch.stack([measure(kernel, labels) for kernel in features]).sum()
        return self.input_weight * on_images - self.label_weight * on_labels
