"""A small convolutional network (LeCun, Bottou, Bengio, Haffner, Proceedings of the IEEE 1998)."""

from collections import OrderedDict
from math import ceil, prod

from pydantic import PositiveInt
from torch import nn

from fedsplit.models.base import Model
from fedsplit.records.images import Shape


class LeNet(Model):
    """Two convolutions of 5 x 5 with pooling, three dense layers; ReLU and maximum pooling as is usual today."""

    channels: PositiveInt = 6
    """Feature maps of the first convolution; the second has 16 for every 6 of them."""
    batch_norm: bool = False
    """Batch normalisation after each convolution, as blocks of their own."""

    def blocks(self, shape: Shape, classes: int) -> "OrderedDict[str, nn.Module]":
        """Blocks conv1, [norm1,] relu1, pool1, conv2, [norm2,] relu2, pool2, dense1, dense2, logits."""
        second = max(1, self.channels * 16 // 6)
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for stage, (inputs, outputs) in enumerate(((shape[0], self.channels), (self.channels, second)), start=1):
            blocks[f"conv{stage}"] = nn.Conv2d(inputs, outputs, kernel_size=5, padding=2)
            if self.batch_norm:
                blocks[f"norm{stage}"] = nn.BatchNorm2d(outputs)
            blocks[f"relu{stage}"] = nn.ReLU()
            blocks[f"pool{stage}"] = nn.MaxPool2d(2, ceil_mode=True)
        flat = second * prod(ceil(side / 4) for side in shape[1:])
        blocks["dense1"] = nn.Sequential(nn.Flatten(), nn.Linear(flat, 120), nn.ReLU())
        blocks["dense2"] = nn.Sequential(nn.Linear(120, 84), nn.ReLU())
        blocks["logits"] = nn.Linear(84, classes)
        return blocks
