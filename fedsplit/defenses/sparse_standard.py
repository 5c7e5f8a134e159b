"""Sparse-Standard: one sparse-coding layer after the image (the simpler architecture in Dibbo, Breuer, Moore, Teti,
ECCV 2024; the layer is that of LCANets: Teti, Kenyon, Migliori, Moore, ICML 2022)."""

from collections import OrderedDict
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Generator, nn

from fedsplit.defenses.base import Defense
from fedsplit.layers.first_dictionary import Beginning, FirstDictionary
from fedsplit.layers.sparse_coding import SparseCodingLayer, sparse_layer
from fedsplit.layers.stem import Stage, Stem
from fedsplit.models.base import AnyModel, Model
from fedsplit.numerics.spectral import Spectral
from fedsplit.records.images import Images, Shape

_SPARSE = "sparse1"
_CONVOLUTION = "convolution2"


class SparseStandard(Defense):
    """The image's sparse code with batch normalisation, then a convolution with batch normalisation, then the model.

    The dictionary never moves in training. What a code hides and what it does not is as with `sca`.
    """

    features: PositiveInt = 16
    """Atoms of the sparse layer."""
    convolution: NonNegativeInt = 28
    """Feature maps of the convolution behind it, so that the cut is as large as that of `sca`; 0 for none."""
    kernel_size: Literal[3, 5, 7, 9, 11] = 5
    """Side of an atom, and of the convolution's kernel, in pixels."""
    stride: PositiveInt = 1
    """Of the sparse layer and of the convolution."""
    lambda_: PositiveFloat = Field(default=0.25, alias="lambda")
    """Price of a code's 1-norm, for images of unit deviation."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of values that is dropped behind every batch normalisation in training."""
    replaces: str = ""
    """The model's own blocks up to this one give way to the stages; without it all of them come behind."""
    first_dictionary: Beginning = "random"
    """The atoms: random; patches of public images; or learned from public images before round 1."""
    pretraining_passes: PositiveInt = 5
    """Over the public images, where the dictionary is pretrained."""
    pretraining_rate: PositiveFloat = 0.3
    """Of the dictionary updates of the pretraining; the published 0.01 needs thousands of them."""
    tolerance: PositiveFloat = 0.2
    """Relative duality gap at which a code is good enough. 500 steps of the published dynamics leave 0.15 to 0.8."""
    iterations: PositiveInt = 30
    """At most this many per code."""

    @property
    def needs_public_images(self) -> bool:
        """Where the first dictionary is made of them."""
        return self.first_dictionary != "random"

    def build(self, model: Model, cut: str) -> tuple[Model, str]:
        """The model behind the stages; the cut stays the model's own."""
        return _Coded(inner=model, settings=self), cut

    def warm_start(self, blocks: nn.Module, public: Images, rng: Generator) -> tuple[str, ...]:
        """Gives the sparse layer the dictionary it keeps."""
        beginning = FirstDictionary(self.first_dictionary, self.pretraining_passes, self.pretraining_rate)
        beginning.give(sparse_layer(blocks, _SPARSE), public, rng)
        return ()

    def stem(self) -> Stem:
        """The stages before the model."""
        stages = [Stage(_SPARSE, self.features, self._sparse)]
        if self.convolution:
            stages.append(Stage(_CONVOLUTION, self.convolution, self._convolution))
        return Stem(tuple(stages), self.stride, self.dropout, self.replaces)

    def _sparse(self, channels: int) -> nn.Module:
        solver = Spectral(self.tolerance, self.iterations)
        return SparseCodingLayer(channels, self.features, self.kernel_size, self.stride, self.lambda_, solver)

    def _convolution(self, channels: int) -> nn.Module:
        return nn.Conv2d(channels, self.convolution, self.kernel_size, self.stride, padding=self.kernel_size // 2)


class _Coded(Model):
    inner: AnyModel
    settings: SparseStandard

    def blocks(self, shape: Shape, classes: int) -> "OrderedDict[str, nn.Module]":
        return self.settings.stem().before(lambda coded: self.inner.blocks(coded, classes), shape)
