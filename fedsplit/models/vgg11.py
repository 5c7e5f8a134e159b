"""A plain network of 11 layers (Simonyan, Zisserman, Very Deep Convolutional Networks for Large-Scale Image
Recognition, ICLR 2015, configuration A)."""

from collections import OrderedDict
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import nn

from fedsplit.models.base import Model
from fedsplit.records.images import Shape

_STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))
_SIDE = 7


class VGG11(Model):
    """torchvision's plain network: five stages of 3 x 3 convolutions, each ended by pooling, then three dense layers.

    Weights are always drawn afresh, from torchvision's law. The dense layers see a map of 7 x 7 whatever the size of
    the image, and most of the 129 million parameters are theirs: take a smaller `hidden` for small images.
    """

    norm: Literal["none", "batch", "group"] = "none"
    """Normalisation after each convolution. none: as published. batch: over the samples of a batch, torchvision's
    vgg11_bn. group: over groups of features of one sample alone (Wu, He, Group Normalization, ECCV 2018), which keeps
    no running statistics."""
    groups: Literal[1, 2, 4, 8, 16, 32, 64] = 32
    """Groups of features where norm is group. Each of these numbers divides the features of every layer."""
    hidden: PositiveInt = 4096
    """Outputs of each of the two dense layers before the logits."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Probability with which an output of these two layers is dropped in training."""

    def blocks(self, shape: Shape, classes: int) -> "OrderedDict[str, nn.Module]":
        """Blocks conv1, [norm1,] relu1, pool1, conv2, ... pool2, conv3, ... relu4, pool3, ... relu6, pool4, ... relu8,
        pool5, average, dense1, dense2, logits: pools are counted by stage, the others by convolution.

        A pool's window ends where its map does, so an image may be smaller than the 32 x 32 that five halvings ask for.
        """
        inputs, height, width = shape
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for stage, widths in enumerate(_STAGES, start=1):
            for outputs in widths:
                number = 1 + sum(name.startswith("conv") for name in blocks)
                blocks[f"conv{number}"] = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)
                if self.norm != "none":
                    blocks[f"norm{number}"] = self._normalisation(outputs)
                blocks[f"relu{number}"] = nn.ReLU()
                inputs = outputs
            blocks[f"pool{stage}"] = nn.MaxPool2d((min(2, height), min(2, width)))
            height, width = max(1, height // 2), max(1, width // 2)
        blocks["average"] = nn.Sequential(nn.AdaptiveAvgPool2d(_SIDE), nn.Flatten())
        for number, size in enumerate((inputs * _SIDE**2, self.hidden), start=1):
            blocks[f"dense{number}"] = nn.Sequential(nn.Linear(size, self.hidden), nn.ReLU(), nn.Dropout(self.dropout))
        blocks["logits"] = nn.Linear(self.hidden, classes)
        _initialise(nn.Sequential(blocks))
        return blocks

    def _normalisation(self, features: int) -> nn.Module:
        return nn.GroupNorm(self.groups, features) if self.norm == "group" else nn.BatchNorm2d(features)


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
            nn.init.zeros_(module.bias)
