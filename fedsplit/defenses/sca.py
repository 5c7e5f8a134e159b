"""Sparse-coding architecture (SCA: Dibbo, Breuer, Moore, Teti, "Improving robustness to model inversion attacks via
sparse coding architectures", ECCV 2024), on the layer of LCANets (Teti, Kenyon, Migliori, Moore, ICML 2022)."""

from collections import OrderedDict
from functools import partial
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Generator, nn

from fedsplit.defenses.base import Defense
from fedsplit.layers.first_dictionary import Beginning, FirstDictionary
from fedsplit.layers.sparse_coding import SparseCodingLayer, sparse_layer
from fedsplit.layers.stem import Stage, Stem, normalised
from fedsplit.models.base import AnyModel, Model
from fedsplit.numerics.spectral import Spectral
from fedsplit.records.images import Images, Shape
from fedsplit.records.step import ClientStep


class Sca(Defense):
    """The model sees the image's sparse code: pairs of a sparse-coding and a batch normalisation block come before it.

    Whoever knows the dictionary (every client and the aggregator do) gets from a code the image's exact projection on
    the active atoms, up to its mean and scale. Only what lies outside their span is hidden: nothing, where as many
    independent atoms are active as there are pixels.
    """

    features: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (16, 28)
    """Atoms of each sparse layer, first to last."""
    kernel_size: Literal[3, 5, 7, 9, 11] = 5
    """Side of an atom in pixels."""
    stride: PositiveInt = 1
    """Of every sparse layer."""
    lambda_: PositiveFloat | tuple[PositiveFloat, ...] = Field(default=0.5, alias="lambda")
    """Price of a code's 1-norm, for images of unit deviation: one for all sparse layers, or one each."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of values that is dropped behind every batch normalisation in training."""
    replaces: str = ""
    """The model's own blocks up to this one give way to the stages; without it all of them come behind."""
    dictionary: Literal["learned", "random"] = "learned"
    """Whether the sparse layers after the first learn their atoms. The first never does, as published."""
    first_dictionary: Beginning = "random"
    """The first layer's atoms: random; patches of public images; or learned from public images before round 1."""
    pretraining_passes: PositiveInt = 5
    """Over the public images, where the first dictionary is pretrained."""
    pretraining_rate: PositiveFloat = 0.3
    """Of the dictionary updates of the pretraining; the published 0.01 needs thousands of them."""
    hebbian_rate: NonNegativeFloat = 0.01
    """Of the dictionary update after every step: active atoms move towards what the codes left unexplained."""
    backpropagate: bool = True
    """Whether the task's gradient passes through the sparse layers after the first, to their learned atoms and to the
    batch normalisation before them. Without it that normalisation has no weight and bias."""
    gradient_tolerance: PositiveFloat = 0.2
    """Relative residual at which a gradient through a sparse layer is good enough for a step of descent. What codes of
    `tolerance` leave wrong in it is about as much."""
    tolerance: PositiveFloat = 0.2
    """Relative duality gap at which a code is good enough. 500 steps of the published dynamics leave 0.15 to 0.8."""
    iterations: PositiveInt = 30
    """At most this many per code."""

    @model_validator(mode="after")
    def _one_lambda_each(self) -> "Sca":
        if len(self.lambdas) != len(self.features):
            raise ValueError(f"lambda has {len(self.lambdas)} values for {len(self.features)} sparse layers")
        return self

    @property
    def lambdas(self) -> tuple[float, ...]:
        """One per sparse layer."""
        return self.lambda_ if isinstance(self.lambda_, tuple) else (self.lambda_,) * len(self.features)

    @property
    def needs_public_images(self) -> bool:
        """Where the first dictionary is made of them."""
        return self.first_dictionary != "random"

    def build(self, model: Model, cut: str) -> tuple[Model, str]:
        """The model behind the stages; the cut stays the model's own."""
        return _Coded(inner=model, sca=self), cut

    def warm_start(self, blocks: nn.Module, public: Images, rng: Generator) -> tuple[str, ...]:
        """Gives the first layer the dictionary it keeps."""
        beginning = FirstDictionary(self.first_dictionary, self.pretraining_passes, self.pretraining_rate)
        beginning.give(sparse_layer(blocks, _name(0)), public, rng)
        return ()

    def after_step(self, segment: nn.Module, step: ClientStep, rng: Generator) -> None:
        """The Hebbian update of every sparse layer but the first, and but those of frozen blocks."""
        del rng
        outputs = dict(step.features)
        for index in range(1, len(self.features)) if self.dictionary == "learned" else ():
            inputs, codes = outputs[normalised(_name(index - 1))], outputs[_name(index)]
            layer = sparse_layer(segment, _name(index))
            if layer.training:
                layer.hebbian_step(inputs, codes, self.hebbian_rate)

    def stem(self) -> Stem:
        """The stages before the model."""
        last = len(self.features) - 1
        stages = [
            Stage(_name(index), features, partial(self._layer, index), affine=self.backpropagate or index == last)
            for index, features in enumerate(self.features)
        ]
        return Stem(tuple(stages), self.stride, self.dropout, self.replaces)

    def _layer(self, index: int, channels: int) -> SparseCodingLayer:
        # Nothing before the first layer learns, so no gradient is needed there.
        passes = self.backpropagate and index > 0
        return SparseCodingLayer(
            channels,
            self.features[index],
            self.kernel_size,
            self.stride,
            self.lambdas[index],
            Spectral(self.tolerance, self.iterations),
            gradient="implicit" if passes else "none",
            gradient_tolerance=self.gradient_tolerance,
            trainable=passes and self.dictionary == "learned",
        )


class _Coded(Model):
    inner: AnyModel
    sca: Sca

    def blocks(self, shape: Shape, classes: int) -> "OrderedDict[str, nn.Module]":
        return self.sca.stem().before(lambda coded: self.inner.blocks(coded, classes), shape)


def _name(index: int) -> str:
    return f"sparse{index + 1}"
