"""Retrieval: the attacker's own images whose smashed data is nearest (Cover and Hart, "Nearest neighbor pattern
classification", IEEE Transactions on Information Theory 1967)."""

from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Generator, Tensor
from torch.nn import functional as F

from fedsplit.attacks.base import Attack, ask, legible, release_varies
from fedsplit.records.leak import Asset, Leak
from fedsplit.records.reconstruction import Evidence, Reconstruction


class NearestNeighbour(Attack):
    """Guesses the average of the k auxiliary images that are nearest in smashed space, by Euclidean distance.

    It never looks inside the smashed data, so it tells how much of a score is recognition of a kind of image rather
    than reconstruction of this one. k is chosen on the validation images from `neighbours` and all of them, whose
    average is the mean image.
    """

    needs: ClassVar[frozenset[Asset]] = frozenset({Asset.SMASHED, Asset.AUXILIARY_PAIRS})

    neighbours: Annotated[tuple[PositiveInt, ...], Field(max_length=100)] = (1, 2, 4, 8, 16, 32, 64, 128)
    """The k that are tried, besides all; those above the number of auxiliary images are left out."""
    draws: PositiveInt = 4
    """Releases averaged for each auxiliary image, where the release is random and the client can be queried."""

    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        """Averages of auxiliary images."""
        leak = legible(leak)
        assert leak.smashed is not None and leak.auxiliary_pairs is not None
        targets, pairs, auxiliary = leak.smashed, leak.auxiliary_pairs, leak.auxiliary
        images = auxiliary.images.to(targets)
        references = pairs.smashed.to(targets)
        draws = self.draws if release_varies(leak, rng) else 1
        if draws > 1:
            more = [ask(leak, images, rng).to(targets) for _ in range(draws - 1)]
            references = torch.stack([references, *more]).mean(dim=0)
        truth = auxiliary.validation_images.to(targets)
        order = _order(pairs.validation_smashed.to(targets), references)
        choices = [*(k for k in self.neighbours if k < len(images)), len(images)]
        losses = [F.mse_loss(_average(images, order, k), truth).item() for k in choices]
        best = choices[losses.index(min(losses))]
        guess = _average(images, _order(targets, references), best)
        return Reconstruction(guess, Evidence(settings=f"{best} of {len(images)} neighbours, draws {draws}"))


def _order(queries: Tensor, references: Tensor) -> Tensor:
    """(n, *cut), (m, *cut) -> (n, m), the references from near to far."""
    # Stable, so that equally distant references are ranked in the same order everywhere.
    return torch.cdist(queries.flatten(1), references.flatten(1)).argsort(dim=1, stable=True)


def _average(images: Tensor, order: Tensor, k: int) -> Tensor:
    """(n, *image), the mean of the first k images of each row of `order`."""
    share = torch.zeros(order.shape, dtype=images.dtype, device=images.device)
    share.scatter_(1, order[:, :k], 1 / k)
    return (share @ images.flatten(1)).view(-1, *images.shape[1:])
