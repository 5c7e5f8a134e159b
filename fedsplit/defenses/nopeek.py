"""Smashed data that depend less on the image (Vepakomma, Singh, Gupta, Raskar, ICDM workshops 2020)."""

from pydantic import PositiveFloat
from torch import Tensor

from fedsplit.defenses.base import Defense
from fedsplit.numerics.distance_correlation import distance_correlation
from fedsplit.records.step import ClientStep


class NoPeek(Defense):
    """Adds the distance correlation between images and smashed data, over the batch, to the client's loss.

    It makes a batch's pattern of distances less alike at both ends of the client segment. That says little about one
    image: a decoder that is trained on the defended data may still invert them, and a server that departs from the
    protocol can drown the term in a larger gradient.
    """

    weight: PositiveFloat
    """Of the distance correlation, beside a task loss of weight one."""
    squared: bool = False
    """Whether distances are squared, as in the published code; the statistic proper has them as they are."""

    def client_penalty(self, step: ClientStep) -> Tensor:
        """A scalar from 0 to `weight`."""
        return self.weight * distance_correlation(step.images, step.smashed, squared=self.squared)
