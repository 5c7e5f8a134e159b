"""A layer that undoes what squeezed its input into a range."""

from torch import Tensor, nn

from fedsplit.numerics.saturation import Squeeze, unsqueezed


class Unsqueezed(nn.Module):
    """(n, *shape) -> the same shape: what tanh or the sigmoid made the input of."""

    def __init__(self, squeeze: Squeeze) -> None:
        super().__init__()
        self.squeeze: Squeeze = squeeze

    def forward(self, values: Tensor) -> Tensor:
        """(n, *shape) -> the same shape."""
        return unsqueezed(values, self.squeeze)
