"""Linear layers on the rows of an image, one behind the other (the end-to-end network for grey images of Dibbo, Breuer,
Moore and Teti, ECCV 2024)."""

from collections import OrderedDict
from itertools import pairwise
from typing import Annotated

from pydantic import Field, PositiveInt
from torch import nn

from fedsplit.models.base import Model
from fedsplit.records.images import Shape


class RowLayers(Model):
    """Every image row by itself passes linear layers; the classes are a linear map of all rows together.

    ReLU follows each of them but the last, unless that is the only one: so the last hidden layer still has a place for
    every row, and each row of it is a function of the image's row of the same place.
    """

    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=12)] = (500, 500, 28, 500)
    """Outputs of each layer per row."""

    def blocks(self, shape: Shape, classes: int) -> "OrderedDict[str, nn.Module]":
        """Blocks rows1, rows2, ... logits. Behind each of the first: (channels, height, width of the layer)."""
        channels, height, columns = shape
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (inputs, outputs) in enumerate(pairwise((columns, *self.widths)), start=1):
            layer = nn.Linear(inputs, outputs)
            last = 1 < number == len(self.widths)
            blocks[f"rows{number}"] = layer if last else nn.Sequential(layer, nn.ReLU())
        flat = channels * height * self.widths[-1]
        blocks["logits"] = nn.Sequential(nn.Flatten(), nn.Linear(flat, classes))
        return blocks
