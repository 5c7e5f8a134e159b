"""A residual network of 18 layers (He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, CVPR 2016)."""

from collections import OrderedDict
from functools import partial
from typing import Literal

from torch import nn
from torchvision.models.resnet import resnet18

from fedsplit.models.base import Model
from fedsplit.records.images import Shape

_STEM_FEATURES = 64


class ResNet18(Model):
    """torchvision's residual network: a stem, eight residual blocks of two 3 x 3 convolutions, the mean over the image.

    Weights are always drawn afresh, from torchvision's law. A residual block is one block: no cut parts it, since its
    shortcut would have to cross as well.
    """

    stem: Literal["imagenet", "small"] = "imagenet"
    """imagenet: the published 7 x 7 convolution of stride 2, and maximum pooling. small: a 3 x 3 convolution of stride
    1 and no pooling, as is usual for images of about 32 x 32 (the paper's section 4.2)."""
    norm: Literal["batch", "group"] = "batch"
    """batch: as published, over the samples of a batch. group: over groups of features of one sample alone (Wu, He,
    Group Normalization, ECCV 2018), which keeps no running statistics."""
    groups: Literal[1, 2, 4, 8, 16, 32, 64] = 32
    """Groups of features where norm is group. Each of these numbers divides the features of every layer."""

    def blocks(self, shape: Shape, classes: int) -> "OrderedDict[str, nn.Module]":
        """Blocks conv1, norm1, relu1, [pool1,] layer1_block1, layer1_block2, layer2_block1, ... pool, logits."""
        norm_layer = partial(nn.GroupNorm, self.groups) if self.norm == "group" else nn.BatchNorm2d
        network = resnet18(weights=None, num_classes=classes, norm_layer=norm_layer)
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        blocks["conv1"] = network.conv1 if self.stem == "imagenet" and shape[0] == 3 else self._first(shape[0])
        blocks["norm1"] = network.bn1
        blocks["relu1"] = network.relu
        if self.stem == "imagenet":
            blocks["pool1"] = network.maxpool
        layers = (network.layer1, network.layer2, network.layer3, network.layer4)
        for layer, stack in enumerate(layers, start=1):
            for number, block in enumerate(stack, start=1):
                blocks[f"layer{layer}_block{number}"] = block
        blocks["pool"] = nn.Sequential(network.avgpool, nn.Flatten())
        blocks["logits"] = network.fc
        # What a block hands on may be the smashed data, or what a defense looks at: the next must not overwrite it.
        for module in nn.Sequential(blocks).modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False
        return blocks

    def _first(self, channels: int) -> nn.Conv2d:
        kernel, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        conv = nn.Conv2d(channels, _STEM_FEATURES, kernel, stride, padding=kernel // 2, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        return conv
