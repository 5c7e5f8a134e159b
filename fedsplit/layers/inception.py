"""The Inception network of the Frechet inception distance (Szegedy et al. 2016; Heusel et al. 2017), without weights.

It is torchvision's Inception v3 but for the poolings of the released TensorFlow graph: averages leave padding out, and
the last block takes a maximum. Parameter names are those of the weights `pt_inception-2015-12-05`.
"""

from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.inception import Inception3, InceptionA, InceptionC, InceptionE

SIDE: Final = 299
"""Images are resized to this many pixels, as the network was trained."""

_BATCH = 64


def inception(weights: Path) -> nn.Module:
    """The network with these weights (a safetensors file), frozen. Raises OSError, SafetensorError or RuntimeError."""
    network = untrained_inception()
    network.load_state_dict(load_file(weights))
    return network


def untrained_inception() -> nn.Module:
    """The network as torch initialises it, frozen and in evaluation mode."""
    network = Inception3(num_classes=1008, aux_logits=False, init_weights=False)
    network.Mixed_5b, network.Mixed_5c, network.Mixed_5d = _BlockA(192, 32), _BlockA(256, 64), _BlockA(288, 64)
    network.Mixed_6b, network.Mixed_6c = _BlockC(768, 128), _BlockC(768, 160)
    network.Mixed_6d, network.Mixed_6e = _BlockC(768, 160), _BlockC(768, 192)
    network.Mixed_7b, network.Mixed_7c = _AverageBlockE(1280), _MaximumBlockE(2048)
    return network.eval().requires_grad_(False)


def pooled_features(network: nn.Module, images: Tensor) -> Tensor:
    """(n, 1 or 3, height, width) in [0, 1] -> (n, 2048). Rounded to 8 bits first, as published distances are."""
    body = nn.Sequential(*(part for name, part in network.named_children() if name != "fc"))
    with torch.no_grad():
        return torch.cat([body(_prepared(batch)).flatten(1) for batch in images.split(_BATCH)])


def _prepared(images: Tensor) -> Tensor:
    bytes_ = (images.float() * 255).round().expand(-1, 3, -1, -1)
    resized = functional.interpolate(bytes_, size=(SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
    return (resized - 128) / 128


class _BlockA(InceptionA):
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [*InceptionA._forward(self, x)[:-1], self.branch_pool(_average(x))]


class _BlockC(InceptionC):
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [*InceptionC._forward(self, x)[:-1], self.branch_pool(_average(x))]


class _AverageBlockE(InceptionE):
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [*InceptionE._forward(self, x)[:-1], self.branch_pool(_average(x))]


class _MaximumBlockE(InceptionE):
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [*InceptionE._forward(self, x)[:-1], self.branch_pool(functional.max_pool2d(x, 3, stride=1, padding=1))]


def _average(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, kernel_size=3, stride=1, padding=1, count_include_pad=False)
