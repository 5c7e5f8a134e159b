"""Five convolutions and two dense layers, the network for colour images of Dibbo, Breuer, Moore and Teti, ECCV 2024."""

from collections import OrderedDict
from math import ceil, prod
from typing import Annotated

from pydantic import Field, PositiveInt
from torch import nn

from fedsplit.models.base import Model
from fedsplit.records.images import Shape


class Convolutional(Model):
    """Convolutions of 5 x 5 with ReLU, dropout and batch normalisation; from the second on, each halves the image."""

    features: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=12)] = (16, 32, 64, 128, 256)
    """Feature maps of each convolution."""
    hidden: PositiveInt = 512
    """Outputs of the dense layer before the logits."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.09
    """Probability with which a value is dropped in training, after each ReLU of a convolution."""

    def blocks(self, shape: Shape, classes: int) -> "OrderedDict[str, nn.Module]":
        """Blocks conv1, relu1, norm1, conv2, relu2, pool2, norm2, conv3, ... dense, logits."""
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        inputs = shape[0]
        for stage, outputs in enumerate(self.features, start=1):
            blocks[f"conv{stage}"] = nn.Conv2d(inputs, outputs, kernel_size=5, padding=2)
            blocks[f"relu{stage}"] = nn.Sequential(nn.ReLU(), nn.Dropout(self.dropout))
            if stage > 1:
                blocks[f"pool{stage}"] = nn.MaxPool2d(2, ceil_mode=True)
            blocks[f"norm{stage}"] = nn.BatchNorm2d(outputs)
            inputs = outputs
        flat = inputs * prod(ceil(side / 2 ** (len(self.features) - 1)) for side in shape[1:])
        blocks["dense"] = nn.Sequential(nn.Flatten(), nn.Linear(flat, self.hidden), nn.ReLU())
        blocks["logits"] = nn.Linear(self.hidden, classes)
        return blocks
