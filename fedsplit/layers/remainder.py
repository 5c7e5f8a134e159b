"""What a ridge from all smashed data to all pixels knows beyond a map that all sites of the image share."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedsplit.layers.site_map import SiteMap
from fedsplit.numerics.ridge import Ridge, left_out_residuals

_CHUNK = 256


@dataclass(frozen=True)
class Remainder:
    """The guess of a ridge less that of a shared map: added to the latter it makes the former.

    A ridge all but interpolates the images it was fitted to, for smashed data is wide. Who learned on them to mend its
    guesses would learn nothing about other images; so each of them is guessed by the fit to all others.
    known: (n, *image), of the fitted images, each by a fit that does not know it.
    """

    ridge: Ridge
    shared: SiteMap
    known: Tensor

    def predict(self, seen: Tensor) -> Tensor:
        """(n, *cut) -> (n, *image)."""
        guess = torch.cat([self.ridge.predict(some.flatten(1)) for some in seen.split(_CHUNK)])
        return guess.unflatten(1, self.shared.sites.image) - self.shared.predict(seen)


def remainder(ridge: Ridge, shared: SiteMap, seen: Tensor, images: Tensor) -> Remainder:
    """Of a ridge that was fitted to these. seen: (n, *cut). images: (n, *image)."""
    residuals = left_out_residuals(ridge, seen.flatten(1), images.flatten(1)).view_as(images)
    return Remainder(ridge, shared, images - residuals - shared.predict(seen))
