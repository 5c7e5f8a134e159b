"""A convolutional dictionary written out as one matrix, atom by atom and place by place, without any convolution."""

import torch
from torch import Tensor

from fedsplit.numerics.dictionary import Dictionary


def unrolled(dictionary: Dictionary) -> Tensor:
    """(channels * height * width, features * height' * width'): a column is an atom at a place, cropped at borders."""
    atoms = dictionary.atoms.detach().double()
    features, channels, kernel, _ = atoms.shape
    height, width = dictionary.size
    border = dictionary.padding
    columns: list[Tensor] = []
    for feature in range(features):
        for row in range(0, height + 2 * border - kernel + 1, dictionary.stride):
            for column in range(0, width + 2 * border - kernel + 1, dictionary.stride):
                canvas = torch.zeros((channels, height + 2 * border, width + 2 * border), dtype=torch.float64)
                canvas[:, row : row + kernel, column : column + kernel] = atoms[feature]
                columns.append(canvas[:, border : border + height, border : border + width].flatten())
    return torch.stack(columns, dim=1)
