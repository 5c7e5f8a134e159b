"""What an adversary holds: assets, and the leak that is made of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Literal

import torch
from torch import Generator, Tensor, nn


class Asset(StrEnum):
    """One thing that an adversary sees or knows."""

    SMASHED = "smashed"
    CUT_GRADIENTS = "cut_gradients"
    LABELS = "labels"
    HEAD_GRADIENTS = "head_gradients"
    AUXILIARY_PAIRS = "auxiliary_pairs"
    CLIENT_QUERIES = "client_queries"
    CLIENT_WEIGHTS = "client_weights"
    SERVER_SEGMENTS = "server_segments"
    DEFENSE = "defense"
    REPEATS = "repeats"
    SCORES = "scores"
    MODEL = "model"


IMPLIED: dict[Asset, frozenset[Asset]] = {
    Asset.CLIENT_WEIGHTS: frozenset({Asset.CLIENT_QUERIES, Asset.AUXILIARY_PAIRS}),
    Asset.CLIENT_QUERIES: frozenset({Asset.AUXILIARY_PAIRS}),
    Asset.MODEL: frozenset({Asset.SCORES}),
}
"""Who can run the client segment can query it, who can query it can make pairs, and who holds the model can ask it."""


def closure(assets: frozenset[Asset]) -> frozenset[Asset]:
    """The assets and all that they imply."""
    return assets.union(*(IMPLIED.get(asset, frozenset()) for asset in assets))


Level = Literal["instance", "class"]
"""Whose images an attack rebuilds: those of the targets one by one, or some of each class."""

LeakKind = Literal["inference", "training", "hidden", "answers", "model"]
"""inference: one pass over the targets, seen at the cut. training: what crossed the cut at training steps. hidden: the
raw outputs of the deployed model's last hidden layer. answers: the confidences that it releases. model: the deployed
model itself, and nothing that anybody sent; what is rebuilt are its classes."""

Phase = Literal["training", "inference"]
"""Of a client's life: it trains, or it is deployed."""

Query = Callable[[Tensor, Generator], Tensor]
"""(n, channels, height, width) images of the attacker's own -> (n, *seen shape), what it would see of them."""


@dataclass(frozen=True)
class Auxiliary:
    """The attacker's own images, drawn from rows that no client holds. Attackers stop and choose by `validation`."""

    images: Tensor
    labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor


@dataclass(frozen=True)
class Pairs:
    """What is seen of the auxiliary images, row by row, where the leak is: at the cut their released smashed data."""

    smashed: Tensor
    validation_smashed: Tensor


@dataclass(frozen=True)
class ClientSegment:
    """Client segments the adversary holds, in evaluation mode: as broadcast at the round's start (at inference: as
    deployed) and, for a training leak, as each client returned its own at the round's end."""

    broadcast: nn.Module
    returned: tuple[nn.Module, ...] = ()


@dataclass(frozen=True)
class Leak:
    """The assets that an attack is handed, about its targets, in an order that means nothing.

    A field that belongs to an asset which the threat does not grant is None. Row numbers and images of the targets
    are not among the fields. image_shape: (channels, height, width).
    """

    kind: LeakKind
    round: int
    image_shape: tuple[int, int, int]
    classes: int
    auxiliary: Auxiliary
    smashed: Tensor | None = None
    """(targets, *cut shape), as released; in a leak behind the cut, what is seen there: (targets, *hidden shape), or
    (targets, classes) on the simplex."""
    cut_gradients: Tensor | None = None
    """(targets, *cut shape), of a training leak."""
    labels: Tensor | None = None
    """(targets,), of a training leak, where the labels are at the server."""
    head_gradients: Tensor | None = None
    """(targets, *hidden shape), of a training leak, where the head and the labels stay at the client (U-shaped)."""
    auxiliary_pairs: Pairs | None = None
    client_queries: Query | None = None
    client_weights: ClientSegment | None = None
    server_segments: tuple[nn.Module, ...] | None = None
    """The server segment at the end of every recorded round up to this one."""
    defense: object | None = None
    """The defense with its parameters, a `Defense`, where the adversary knows them."""
    repeats: int | None = None
    """How many answers to one image every row of `smashed`, of the pairs and of an answer to a query is the mean of."""
    scores: Query | None = None
    """The confidences that the deployed model releases for images of the attacker's own."""
    model: nn.Module | None = None
    """The deployed model, (n, channels, height, width) -> logits (n, classes), in evaluation mode; differentiable."""
    wanted: Tensor | None = None
    """(targets,), where the targets are classes: which one each image is to show. No asset: the attacker chose them."""
    learned: dict[str, Tensor] | None = None
    """What this very attack's impostor knew when it had served; None where the server was honest. No asset: no threat
    grants it or takes it away."""

    @property
    def phase(self) -> Phase:
        """In which its clients were when they answered."""
        return "training" if self.kind == "training" else "inference"

    @property
    def targets(self) -> int:
        """How many images there are to rebuild."""
        found = self.smashed if self.wanted is None else self.wanted
        assert found is not None, "every attack sees smashed data, or knows the classes that it wants"
        return len(found)

    def granted(self, assets: frozenset[Asset]) -> "Leak":
        """The same leak without the fields of all other assets."""
        withheld = {asset.value: None for asset in Asset if asset not in assets}
        return replace(self, **withheld)  # pyright: ignore[reportArgumentType]

    def permuted(self, order: Tensor, among: "Sequence[Leak]" = ()) -> "Leak":
        """The same leak with everything that is about one target moved to another one.

        order: (targets,), of whom each target has it from now on, counted through all targets of `among`, leak after
        leak, or through its own.
        """
        moved = {
            name: torch.cat([getattr(one, name) for one in among or (self,)])[order]
            for name in PER_TARGET
            if getattr(self, name) is not None
        }
        return replace(self, **moved)


PER_TARGET = ("smashed", "cut_gradients", "labels", "head_gradients", "wanted")
"""Fields of a leak that have one row per target."""

assert {asset.value for asset in Asset} <= {field.name for field in fields(Leak)}
