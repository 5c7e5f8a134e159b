"""Fully connected layers on the rows of an image (the split network of Dibbo, Breuer, Moore, Teti, ECCV 2024)."""

from collections import OrderedDict

from pydantic import PositiveInt
from torch import nn

from fedsplit.models.base import Model
from fedsplit.records.images import Shape


class Linear(Model):
    """A linear layer with ReLU on every image row, then two dense layers over all of them.

    The published width of 500 has 196 million parameters for 28 x 28 images with a two-stage sparse client; the width
    of 100 that is measured here keeps the shape of the problem at a hundredth of the size.
    """

    width: PositiveInt = 500
    """Outputs of the row layer per row, and of the hidden dense layer."""

    def blocks(self, shape: Shape, classes: int) -> "OrderedDict[str, nn.Module]":
        """Blocks rows, hidden, logits. Smashed data after rows: (channels, height, width of the layer)."""
        channels, height, columns = shape
        return OrderedDict(
            rows=nn.Sequential(nn.Linear(columns, self.width), nn.ReLU()),
            hidden=nn.Sequential(nn.Flatten(), nn.Linear(channels * height * self.width, self.width), nn.ReLU()),
            logits=nn.Linear(self.width, classes),
        )
