"""The fair reference for sparse coding: plain convolutions in place of the sparse layers (the network of Dibbo, Breuer,
Moore, Teti, ECCV 2024, without its sparsity)."""

from collections import OrderedDict
from functools import partial
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import nn

from fedsplit.defenses.base import Defense
from fedsplit.layers.stem import Stage, Stem
from fedsplit.models.base import AnyModel, Model
from fedsplit.records.images import Shape


class ConvReference(Defense):
    """Not a defense: the network of `sca`, block for block of the same shapes, with convolution and ReLU for coding.

    Beside it a table shows what sparsity adds, and not what a larger cut, more layers or batch normalisation do.
    """

    features: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (16, 28)
    """Feature maps of each convolution, first to last."""
    kernel_size: Literal[3, 5, 7, 9, 11] = 5
    """Side of a kernel in pixels."""
    stride: PositiveInt = 1
    """Of every convolution."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of values that is dropped behind every batch normalisation in training."""
    replaces: str = ""
    """The model's own blocks up to this one give way to the stages; without it all of them come behind."""

    def build(self, model: Model, cut: str) -> tuple[Model, str]:
        """The model behind the stages; the cut stays the model's own."""
        return _Convolved(inner=model, settings=self), cut

    def stem(self) -> Stem:
        """The stages before the model."""
        stages = [
            Stage(f"reference{number}", features, partial(self._layer, features))
            for number, features in enumerate(self.features, start=1)
        ]
        return Stem(tuple(stages), self.stride, self.dropout, self.replaces)

    def _layer(self, features: int, channels: int) -> nn.Module:
        padding = self.kernel_size // 2
        return nn.Sequential(nn.Conv2d(channels, features, self.kernel_size, self.stride, padding), nn.ReLU())


class _Convolved(Model):
    inner: AnyModel
    settings: ConvReference

    def blocks(self, shape: Shape, classes: int) -> "OrderedDict[str, nn.Module]":
        return self.settings.stem().before(lambda maps: self.inner.blocks(maps, classes), shape)
