"""The private images behind a leak. Only `simulate` builds one and only metrics may look at it."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Truth:
    """images: (targets, channels, height, width) in [0, 1]. labels: (targets,). Both in the order of the leak."""

    images: Tensor
    labels: Tensor
