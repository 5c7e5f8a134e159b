"""The linear maps from smashed data to images that ridge regression finds in closed form (Hoerl and Kennard, "Ridge
regression: biased estimation for nonorthogonal problems", Technometrics 1970)."""

from dataclasses import dataclass

from torch import Tensor

from fedsplit.layers.site_map import SiteMap, fit_site_map
from fedsplit.layers.sites import sites_of
from fedsplit.numerics.ridge import Ridge, fit_ridges
from fedsplit.records.images import Shape


@dataclass(frozen=True)
class LinearMap:
    """From all smashed data to all pixels; `shared` comes first, where there is one, and `ridge` is for what it left
    over. image_shape: (channels, height, width)."""

    ridge: Ridge
    shared: SiteMap | None
    image_shape: Shape

    @property
    def error(self) -> float:
        """Mean squared error per pixel of the ridge, each image left out in turn. A shared map was fitted to these very
        images, so what it left over of them is too little: it takes other images to compare it with a ridge alone."""
        return min(self.ridge.errors)

    @property
    def words(self) -> str:
        """How it came about."""
        first = "" if self.shared is None else f", after a map shared by {self.shared.sites.name}"
        return f"ridge strength {self.ridge.strength:.0e}{first}"

    def predict(self, smashed: Tensor) -> Tensor:
        """(n, *cut) -> (n, *image)."""
        images = self.ridge.predict(smashed.flatten(1)).view(-1, *self.image_shape)
        return images if self.shared is None else images + self.shared.predict(smashed)


def fit_linear_maps(smashed: Tensor, images: Tensor, draws: int = 1) -> tuple[LinearMap, ...]:
    """A ridge by itself; and, where rows or places of the image may share a map, one for what that left over.

    smashed: (n, *cut). images: (n, *image). draws: how many neighbouring rows are releases of one image. Each strength
    is chosen by leave-one-out error: a ridge's leaves out an image with all its draws, the shared map's a single site,
    of the first draw alone. Which of the two maps is better, neither error says: that is for other images to judge.
    """
    shape: Shape = (images.shape[1], images.shape[2], images.shape[3])
    candidates = [sites for sites in sites_of(tuple(smashed.shape[1:]), shape) if sites.count > 1]
    # Sites are many and their map is small: one draw of each image is enough, and no site has a twin that stays in.
    shared = [None, *([fit_site_map(smashed[::draws], images[::draws], candidates)] if candidates else [])]
    rests = [images if first is None else images - first.predict(smashed) for first in shared]
    ridges = fit_ridges(smashed.flatten(1), [rest.flatten(1) for rest in rests], block=draws)
    return tuple(LinearMap(ridge, first, shape) for ridge, first in zip(ridges, shared, strict=True))
