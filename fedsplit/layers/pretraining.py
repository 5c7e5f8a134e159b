"""A classifier out of the first blocks of a model, whose own last block may be for other classes (so begins the
transfer learning of Ho, Hao, Chandrasegaran, Nguyen, Cheung, CVPR 2024)."""

from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedsplit.errors import DataError
from fedsplit.progress import track
from fedsplit.records.images import Images


@dataclass(frozen=True)
class Pretraining:
    """epochs: passes over the images. batch_size: in a step; batches are of equal size, up to twice as large where the
    images do not come out even. learning_rate: of Adam."""

    epochs: int
    batch_size: int
    learning_rate: float

    def run(self, body: nn.Module, images: Tensor, labels: Tensor, classes: int, description: str) -> nn.Module:
        """Trains the body in place, and a linear layer behind it; returns both as one, in training mode. Draws from
        torch's global generator.

        images: (n, channels, height, width), n at least 2. labels: (n,), below `classes`.
        """
        like = next(chain(body.parameters(), body.buffers()), images)
        pixels, labels = images.to(like), labels.to(like.device)
        with torch.no_grad():
            width = body.eval()(pixels[:1]).numel()
        head = nn.Linear(width, classes).to(like)
        network = nn.Sequential(body, nn.Flatten(), head).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=self.learning_rate, fused=True)
        for _ in track(range(self.epochs), description, self.epochs):
            for rows in torch.randperm(len(pixels)).tensor_split(max(1, len(pixels) // self.batch_size)):
                loss = functional.cross_entropy(network(pixels[rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return network

    def on_public(self, body: nn.Module, public: Images, at: str) -> nn.Module:
        """The same on public images and their labels, for the defense `at`. Raises DataError where they are too few."""
        if len(public) < 2:
            remedy = "raise roles.public, or let public.dataset be another data set"
            raise DataError(f"learns from public images, and there are {len(public)}", at=at, remedy=remedy)
        classes = len(public.class_names)
        return self.run(body, public.pixels, public.labels, classes, "learning from public images")
