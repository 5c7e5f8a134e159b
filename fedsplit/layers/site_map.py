"""One linear map from features to pixels that all sites of the image share, fitted in closed form."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsplit.layers.sites import Sites
from fedsplit.numerics.ridge import fit_ridge

_SAMPLES = 20_000
_SAMPLES_OF_WIDE_FEATURES = 2_000
_CHUNK = 256


@dataclass(frozen=True)
class SiteMap:
    """image = image_mean + assemble(gather(smashed - smashed_mean) @ weight).

    weight: (features, outputs) of a site. smashed_mean: (1, *cut). image_mean: (1, *image).
    strength: the ridge's, relative; infinite where the smashed data says nothing, and the guess is the mean image.
    error: leave-one-out mean squared error per pixel.
    """

    sites: Sites
    weight: Tensor
    smashed_mean: Tensor
    image_mean: Tensor
    strength: float
    error: float

    def predict(self, smashed: Tensor) -> Tensor:
        """(n, *cut) -> (n, *image)."""
        chunks = (self.sites.apply(some - self.smashed_mean, self.weight.T, None) for some in smashed.split(_CHUNK))
        return torch.cat([self.sites.assemble(pixels) for pixels in chunks]) + self.image_mean


def fit_site_map(smashed: Tensor, images: Tensor, candidates: Iterable[Sites]) -> SiteMap:
    """The ridge of least leave-one-out error over the candidate layouts. smashed: (n, *cut). images: (n, *image)."""
    return min((_fit(smashed, images, sites) for sites in candidates), key=lambda fitted: fitted.error)


def _fit(smashed: Tensor, images: Tensor, sites: Sites) -> SiteMap:
    smashed_mean, image_mean = smashed.mean(dim=0, keepdim=True), images.mean(dim=0, keepdim=True)
    # A small map needs few samples; evenly spaced images, since auxiliary images may be sorted.
    samples = _SAMPLES if sites.features <= _SAMPLES_OF_WIDE_FEATURES else _SAMPLES_OF_WIDE_FEATURES
    used = len(images) if sites.count == 1 else min(len(images), max(1, samples // sites.count))
    chosen = torch.arange(used, device=images.device) * len(images) // used
    features = sites.gather(smashed[chosen] - smashed_mean).flatten(0, 1)
    pixels = sites.scatter(images[chosen] - image_mean).flatten(0, 1)
    ridge = fit_ridge(features, pixels)
    # What the chosen images have off the mean of all is the sample's accident, so the small intercept is left out.
    return SiteMap(sites, ridge.weight, smashed_mean, image_mean, ridge.strength, min(ridge.errors))
