"""What a ridge from all smashed data to all pixels knows beyond a map that all sites of the image share."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedsplit.layers.site_map import SiteMap
from fedsplit.numerics.ridge import LeftOut, Ridge, leave_out

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
    left_out: LeftOut
    known: Tensor

    def predict(self, seen: Tensor) -> Tensor:
        """(n, *cut) -> (n, *image)."""
        guess = torch.cat([self.ridge.predict(some.flatten(1)) for some in seen.split(_CHUNK)])
        return self._less_shared(guess, seen)

    def predict_without(self, rows: Tensor, seen: Tensor) -> Tensor:
        """What is seen of the fitted images `rows` in other releases, (k, *cut) -> (k, *image)."""
        return self._less_shared(self.left_out.predict(rows, seen.flatten(1)), seen)

    def _less_shared(self, guess: Tensor, seen: Tensor) -> Tensor:
        return guess.unflatten(1, self.shared.sites.image) - self.shared.predict(seen)


def remainder(ridge: Ridge, shared: SiteMap, seen: Tensor, images: Tensor) -> Remainder:
    """Of a ridge that was fitted to these. seen: (n, *cut). images: (n, *image)."""
    left_out = leave_out(ridge, seen.flatten(1), images.flatten(1))
    known = images - left_out.residuals.view_as(images) - shared.predict(seen)
    return Remainder(ridge, shared, left_out, known)
