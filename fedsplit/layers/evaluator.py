"""An independent judge: a small classifier trained on the evaluation rows, seen by no other party."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from fedsplit.errors import DataError
from fedsplit.records.images import Images
from fedsplit.seeding import Seeds

FEATURES = 48
"""Width of the feature layer: enough to tell faces apart, few enough for a Frechet distance of 400 images."""

_WIDTHS = (16, 32, 48, 48)
_SMALLEST_MAP = 4
_LARGE = 32
_HELD_OUT = 0.2
_BATCH = 64
_LEAST_STEPS = 400
_EPOCHS = 10
_LEARNING_RATE = 3e-3
_WEIGHT_DECAY = 0.02
_INFERENCE_BATCH = 512


@dataclass(frozen=True)
class Evaluator:
    """body: images (n, channels, height, width) in [0, 1] -> features (n, width); head: features -> logits.

    Both are frozen and in evaluation mode. accuracy: on evaluation rows held out, nan where there were too few.
    """

    body: nn.Module
    head: nn.Module
    accuracy: float

    def features(self, images: Tensor) -> Tensor:
        """(n, channels, height, width) -> (n, width), what the last layer before the logits gives, on the CPU."""
        with torch.no_grad():
            return torch.cat([self.body(batch.float().cpu()) for batch in images.split(_INFERENCE_BATCH)])

    def logits(self, images: Tensor) -> Tensor:
        """(n, channels, height, width) -> (n, classes), on the CPU."""
        with torch.no_grad():
            return self.head(self.features(images))


def train_evaluator(images: Images, seeds: Seeds) -> Evaluator:
    """Trains a judge on these images, part of their groups held out for its own accuracy.

    It has normalised convolutions with strides and a bottleneck of features, unlike the models it judges attacks on.
    Raises DataError where there are no images.
    """
    if not len(images):
        raise DataError("there are no rows to train the evaluator on", at="roles.evaluation", remedy="raise the share")
    train, held_out = _parted(images, seeds("held out"))
    with seeds.fork("initialisation"):
        body, head = _body(images.pixels), nn.Linear(FEATURES, len(images.class_names))
    _fit(nn.Sequential(body, head), train, seeds("batches"))
    for part in (body, head):
        part.eval().requires_grad_(False)
    return Evaluator(body, head, _accuracy(Evaluator(body, head, math.nan), held_out))


def _parted(images: Images, rng: Generator) -> tuple[Images, Images]:
    """Whole groups are held out, at random, as many as do not exceed the share."""
    groups, members = images.groups.unique(return_inverse=True)
    rank = torch.randperm(len(groups), generator=rng)[members]
    ends = rank.bincount().cumsum(0)
    held_out = rank < (ends <= _HELD_OUT * len(images)).sum()
    return images.at(~held_out), images.at(held_out)


def _body(pixels: Tensor) -> nn.Sequential:
    """Strided stages until the map is about 4 x 4, then one layer of features, standardised over the training rows."""
    channels, side = pixels.shape[1], max(pixels.shape[-2:])
    stages: list[nn.Module] = []
    for width in _WIDTHS:
        if side <= _SMALLEST_MAP and stages:
            break
        stride = 4 if side > _LARGE else 2
        convolution = nn.Conv2d(channels, width, stride + 1, stride=stride, padding=stride // 2)
        stages += [convolution, nn.GroupNorm(4, width), nn.GELU()]
        channels, side = width, math.ceil(side / stride)
    flat = [nn.AdaptiveAvgPool2d(_SMALLEST_MAP), nn.Flatten()]
    # Of unit variance, so that distances of features mean the same whatever the images and the seed.
    features = [nn.Linear(channels * _SMALLEST_MAP**2, FEATURES), nn.BatchNorm1d(FEATURES, affine=False)]
    return nn.Sequential(*stages, *flat, *features)


def _fit(network: nn.Module, images: Images, rng: Generator) -> None:
    steps = max(_LEAST_STEPS, _EPOCHS * math.ceil(len(images) / _BATCH))
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=_WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
    pixels = images.pixels.float()
    for _ in range(steps):
        rows = torch.randint(len(images), (_BATCH,), generator=rng)
        loss = functional.cross_entropy(network(pixels[rows]), images.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _accuracy(evaluator: Evaluator, images: Images) -> float:
    if not len(images):
        return math.nan
    guesses = evaluator.logits(images.pixels).argmax(1)
    return float((guesses == images.labels).double().mean())
