"""The best linear guess in closed form: ridge regression from smashed data to images."""

from typing import ClassVar

import torch
from pydantic import PositiveInt
from torch import Generator
from torch.nn import functional as F

from fedsplit.attacks.base import Attack, ask, legible, release_varies
from fedsplit.layers.linear_map import LinearMap, fit_linear_maps
from fedsplit.records.leak import Asset, Leak
from fedsplit.records.reconstruction import Evidence, Reconstruction


class LinearInverse(Attack):
    """Regresses the auxiliary images on their smashed data, and applies the fit to the targets.

    A ridge from all smashed data to all pixels; or, where that does better on the validation images, first a map that
    all rows or places of the image share, and then the ridge for what it left over. Each strength is chosen by
    leave-one-out error, from almost none to infinite, where the guess is the mean image. Nothing is trained, so that a
    failure to converge cannot be taken for a defense.
    """

    needs: ClassVar[frozenset[Asset]] = frozenset({Asset.SMASHED, Asset.AUXILIARY_PAIRS})

    draws: PositiveInt = 4
    """Releases per auxiliary image, where the release is random, the client can be queried, and there are more images
    than features (else each draw would make the problem larger in its cube)."""

    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        """Linear in the smashed data. Draws of one image are left out together; a shared map learns from the first."""
        leak = legible(leak)
        assert leak.smashed is not None and leak.auxiliary_pairs is not None
        targets, pairs = leak.smashed, leak.auxiliary_pairs.smashed.to(leak.smashed)
        images = leak.auxiliary.images.to(targets)
        draws = self.draws if pairs[0].numel() <= len(pairs) and release_varies(leak, rng) else 1
        if draws > 1:
            more = [ask(leak, images, rng).to(targets) for _ in range(draws - 1)]
            pairs = torch.stack([pairs, *more], dim=1).flatten(0, 1)
            images = images.repeat_interleave(draws, dim=0)
        judged = leak.auxiliary_pairs.validation_smashed.to(targets)
        truth = leak.auxiliary.validation_images.to(targets)

        def error(fitted: LinearMap) -> float:
            return F.mse_loss(fitted.predict(judged).clamp(0, 1), truth).item()

        best = min(fit_linear_maps(pairs, images, draws), key=error)
        return Reconstruction(best.predict(targets), Evidence(settings=f"{best.words}, draws {draws}"))
