"""Images of a class beyond those that a style makes: features inside the generator are moved, block after block (Qiu,
Fang, Yu, Chen, Qiu and Xia, "A closer look at GAN priors: exploiting intermediate features for enhanced model inversion
attacks", ECCV 2024)."""

from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from fedsplit.layers.class_search import ClassSearch, Refined, follow, told
from fedsplit.layers.synthesizer import Block, Stage, chained
from fedsplit.numerics.l1_ball import into_l1_ball
from fedsplit.seeding import Seeds

_JUDGES = 4
"""Crops of each image, the same before and after, by which it is decided which of the two is nearer to the class."""


@dataclass(frozen=True)
class FeatureSearch:
    """search: what found the styles. places: behind how many blocks features are moved, at most, and for so many steps
    behind each. radius: how far behind the first one, as a share of the l1 norm of the features; twice as far behind
    the second one, and so on."""

    search: ClassSearch
    places: int
    steps: int
    learning_rate: float
    radius: float

    def refined(self, label: int, styles: Tensor, seeds: Seeds) -> Refined:
        """Features of every style behind every block, kept where they bring the image nearer to the class."""
        images = self.search.images(styles)
        found, sums, count = [], torch.zeros(()), 0
        for number, rows in enumerate(torch.arange(len(styles), device=styles.device).split(self.search.batch_size)):
            made, moved, losses = self._part(label, styles[rows], seeds.child("part", number))
            # What was not moved is, bit for bit, what its style makes.
            found.append(torch.where(moved[:, None, None, None], made, images[rows]))
            sums = sums + torch.stack([told(each).sum().cpu() for each in losses])
            count += int(moved.sum())
        return Refined(torch.cat(found), tuple((sums / len(styles)).tolist()), count / len(styles))

    def _part(self, label: int, styles: Tensor, seeds: Seeds) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Images, which of them are new, and how far all are from the class: before, and behind every block."""
        first, *blocks = self.search.network.blocks
        with torch.no_grad():
            stage = first(Stage(styles), styles)
        rest = tuple(blocks)
        losses = [self._judged(label, stage, rest, styles, seeds("judges"))]
        anew = torch.zeros(len(styles), dtype=torch.bool, device=styles.device)
        for place in range(1, min(self.places, len(blocks)) + 1):
            found = self._moved(label, stage, rest, styles, place * self.radius, seeds("crops", place))
            loss = self._judged(label, found, rest, styles, seeds("judges"))
            better = loss < losses[-1]
            wide = better.view(-1, *[1] * (stage.features.ndim - 1))
            stage = replace(stage, features=torch.where(wide, found.features, stage.features))
            losses.append(torch.where(better, loss, losses[-1]))
            anew |= better
            with torch.no_grad():
                stage, rest = rest[0](stage, styles), rest[1:]
        with torch.no_grad():
            return chained(rest, stage, styles), anew, losses

    def _moved(
        self, label: int, stage: Stage, rest: tuple[Block, ...], styles: Tensor, radius: float, rng: Generator
    ) -> Stage:
        start = stage.features
        reach = radius * start.flatten(1).abs().sum(dim=1)
        change = torch.zeros_like(start).requires_grad_()
        optimizer = self.search.optimizer(change, self.learning_rate)
        for _ in range(self.steps):
            images = chained(rest, replace(stage, features=start + change), styles)
            follow(self.search.distances(self.search.crops.draw(images, rng), label), change)
            optimizer.step()
            with torch.no_grad():
                change.copy_(into_l1_ball(change.flatten(1), reach).view(change.shape))
        return replace(stage, features=start + change.detach())

    @torch.no_grad()
    def _judged(self, label: int, stage: Stage, rest: tuple[Block, ...], styles: Tensor, rng: Generator) -> Tensor:
        images = chained(rest, stage, styles)
        views = [self.search.crops.draw(images, rng) for _ in range(_JUDGES)]
        return torch.stack([self.search.distances(view, label) for view in views]).mean(dim=0)
