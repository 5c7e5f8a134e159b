"""Pairs of small convolutions between poolings, the network for CIFAR-10 of He, Zhang and Lee, "Model inversion attacks
against collaborative inference", ACSAC 2019."""

from collections import OrderedDict
from math import ceil, prod
from typing import Annotated

from pydantic import Field, PositiveInt
from torch import nn

from fedsplit.models.base import Model
from fedsplit.records.images import Shape


class ConvolutionPairs(Model):
    """Stages of two 3 x 3 convolutions with ReLU and maximum pooling, then two dense layers; nothing is normalised."""

    features: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=8)] = (64, 128, 128)
    """Feature maps of both convolutions of each stage."""
    hidden: PositiveInt = 512
    """Outputs of the dense layer before the logits."""

    def blocks(self, shape: Shape, classes: int) -> "OrderedDict[str, nn.Module]":
        """Blocks conv11, relu11, conv12, relu12, pool1, conv21, ... dense, logits: the stage, then which of the two."""
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        inputs = shape[0]
        for stage, outputs in enumerate(self.features, start=1):
            for place in (1, 2):
                blocks[f"conv{stage}{place}"] = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)
                blocks[f"relu{stage}{place}"] = nn.ReLU()
                inputs = outputs
            blocks[f"pool{stage}"] = nn.MaxPool2d(2, ceil_mode=True)
        flat = inputs * prod(ceil(side / 2 ** len(self.features)) for side in shape[1:])
        blocks["dense"] = nn.Sequential(nn.Flatten(), nn.Linear(flat, self.hidden), nn.ReLU())
        blocks["logits"] = nn.Linear(self.hidden, classes)
        return blocks
