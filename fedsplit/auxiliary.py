"""Which images an adversary learns from, where they are not the ideal ones.

What an inversion reaches, it reaches with these images; an adversary may have fewer of them, none of some classes, or
only images of something else.
"""

from dataclasses import replace
from typing import Annotated

import torch
from pydantic import BeforeValidator, Field
from torch import Generator

from fedsplit.choice import some, strangers
from fedsplit.component import Settings
from fedsplit.datasets.base import AnyDataset
from fedsplit.errors import DataError
from fedsplit.records.images import Images

NO_CLASS = -1
"""The label of an image that belongs to no class of the targets."""

ClassName = Annotated[str, BeforeValidator(lambda raw: str(raw) if isinstance(raw, int) else raw)]


class AuxiliaryImages(Settings):
    """An adversary's own images. As it stands all rows of the role `auxiliary`, a sample of what the targets are a
    sample of: the ideal case."""

    dataset: AnyDataset | None = None
    """Another data set, of which it takes as many images at random, in the targets' size and colours. None: the rows of
    the role."""
    count: Annotated[int, Field(ge=8)] | None = None
    """How many, the part included by which attackers stop and choose; fewer than this are taken as they are. None: as
    many as the role has."""
    without: tuple[ClassName, ...] = ()
    """Classes of which it has no image, by name."""

    @property
    def title(self) -> str:
        """What sets them apart from the ideal case, in words; empty where nothing does."""
        source = "" if self.dataset is None else f"knows {self.dataset.kind}"
        count = "" if self.count is None else f"{self.count:,} images"
        missing = f"without {', '.join(self.without)}" if self.without else ""
        return "; ".join(words for words in (source, count, missing) if words)

    def choose(
        self, learned: Images, validation: Images, everything: Images, other: Images | None, rng: Generator
    ) -> tuple[Images, Images]:
        """What it learns from, and what it stops and chooses by.

        learned, validation: the rows of the role. everything: the data set that is attacked. other: all of `dataset`,
        where there is one; an exact copy of anything that is attacked is left out.
        Raises DataError where a class is unknown, or too few images are left.
        """
        shares = len(learned), len(validation)
        if other is not None:
            strange = strangers(self._known(other), everything)
            # Of no class that the targets could have.
            strange = replace(strange, labels=torch.full_like(strange.labels, NO_CLASS))
            learned, validation = _parted(strange, shares, rng)
        else:
            learned, validation = self._known(learned), self._known(validation)
        if self.count is not None:
            held = max(1, round(self.count * shares[1] / sum(shares)))
            learned, validation = some(learned, self.count - held, rng), some(validation, held, rng)
        if len(learned) < 2 or not len(validation):
            reason = f"leaves {len(learned)} images to learn from and {len(validation)} to choose by"
            remedy = "leave out fewer classes, or use more images"
            raise DataError(reason, at="threats.auxiliary", value=self.title, remedy=remedy)
        return learned, validation

    def _known(self, images: Images) -> Images:
        unknown = [name for name in self.without if name not in images.class_names]
        if unknown:
            remedy = f"use names of {', '.join(images.class_names)}"
            raise DataError("is no class", at="threats.auxiliary.without", value=unknown[0], remedy=remedy)
        missing = torch.tensor([name in self.without for name in images.class_names])
        return images.at((~missing[images.labels]).nonzero().flatten())


def _parted(images: Images, shares: tuple[int, int], rng: Generator) -> tuple[Images, Images]:
    """As many as the shares say, or all, in their proportion; no group is in both parts."""
    names, group = torch.unique(images.groups, return_inverse=True)
    order = torch.randperm(len(names), generator=rng)[group].argsort(stable=True)[: sum(shares)]
    first = round(len(order) * shares[0] / sum(shares))
    rest = order[first:]
    rest = rest[~torch.isin(group[rest], group[order[:first]])]
    return images.at(order[:first]), images.at(rest)
