"""A stand-in for a model that can only be asked: it learns from the answers, and has gradients."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedsplit.progress import track
from fedsplit.seeding import Seeds

_WIDTHS = (32, 64, 64)
_SMALLEST_MAP = 4
_BATCH = 64
_LEARNING_RATE = 2e-3


def taught(images: Tensor, confidences: Tensor, epochs: int, seeds: Seeds) -> nn.Module:
    """(n, channels, height, width), (n, classes) on the simplex -> a module that gives logits, in evaluation mode, its
    softmax near the confidences (Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015).

    Without normalisation over a batch or dropout: it is to be followed along its gradients.
    """
    with seeds.fork("student"):
        student = _network(images, confidences.shape[1])
    optimizer = torch.optim.AdamW(student.parameters(), weight_decay=0.01)
    steps = epochs * math.ceil(len(images) / _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
    rng = seeds("student batches")
    for _ in track(range(epochs), "student of the model", epochs):
        for rows in torch.randperm(len(images), generator=rng).split(_BATCH):
            likely = student(images[rows]).log_softmax(dim=1)
            loss = F.kl_div(likely, confidences[rows], reduction="batchmean")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return student.eval().requires_grad_(requires_grad=False)


def _network(images: Tensor, classes: int) -> nn.Sequential:
    channels, height, width = images.shape[1:]
    layers: list[nn.Module] = []
    for wide in _WIDTHS:
        layers += [nn.Conv2d(channels, wide, 3, padding=1), nn.GroupNorm(8, wide), nn.SiLU()]
        channels = wide
        if min(height, width) // 2 >= _SMALLEST_MAP:
            layers.append(nn.AvgPool2d(2))
            height, width = height // 2, width // 2
    flat = [nn.Flatten(), nn.Linear(channels * height * width, classes)]
    return nn.Sequential(*layers, *flat).to(images)
