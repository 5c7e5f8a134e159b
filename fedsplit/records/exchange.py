"""One client step across the cut, as the server's side sees it."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Exchange:
    """The watched rows of one step. No image is in it: `rows` are numbers of the data set.

    smashed: (n, *cut shape), as released. gradient: the same shape, as returned. rows: (n,). labels: (n,), None where
    they stay home; head_gradient: (n, *hidden shape), what left the client there instead.
    """

    round: int
    client: int
    step: int
    rows: Tensor
    smashed: Tensor
    gradient: Tensor
    labels: Tensor | None
    head_gradient: Tensor | None = None


CROSSED = ("rows", "smashed", "gradient", "labels", "head_gradient")
"""The fields with one row per watched row."""
