"""Training on misleading fakes (Gong, Wang, Li, Chen, Wang, "A GAN-based defense framework against model inversion
attacks", IEEE TIFS 2023; rebuilt from their abstract and from what others say of it, with no code to compare with)."""

from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from itertools import chain
from typing import Annotated

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn
from torch.nn import functional

from fedsplit.defenses.base import Defense
from fedsplit.generators.base import SPARED, Imitation, LabelledGenerator, imitated
from fedsplit.generators.conditional_gan import ConditionalGan
from fedsplit.layers.anchored import Anchored
from fedsplit.layers.pretraining import Pretraining
from fedsplit.models.base import AnyModel, Model
from fedsplit.numerics.fisher import fisher_diagonal
from fedsplit.numerics.poisoning import Step, minimised
from fedsplit.records.images import Holding, Images, Shape
from fedsplit.records.step import ClientStep
from fedsplit.seeding import Seeds, drawn_from
from fedsplit.split import Segment

_AT_ONCE = 256
_STUDIED = 64


class MisleadingFakes(Defense):
    """Clients train on two kinds of fakes beside their rows, so that what an inversion finds of a class is not what its
    images have in common. The loss is that of the rows, plus `disguised_weight` times that of the first kind, plus
    `inverted_weight` times that of the second, divided by the sum of the three weights.

    Before round 1 all blocks but the last learn from public images. Then each client trains a generator on its own
    rows. Disguised fakes are its samples of a class, moved in its latents until a classifier of the public images, the
    client's blocks with a linear layer, takes them for a public class; they keep the label of their class. Inverted
    fakes are what an inversion finds of a class: samples, moved pixel by pixel towards the class in a copy of the
    client's blocks that, with a linear layer behind them, learned the client's rows, since no client holds the rest of
    the model. Generator and classifiers are forgotten then.

    A client with few rows makes no fakes. One with a single class knows no wrong label: its inverted fakes keep theirs.
    Where no class but its own is public, a disguised fake has nothing else to look like than that.
    """

    share: PositiveFloat = 0.5
    """Fakes of each kind for each of the client's own rows. How many they are does not change what a kind weighs."""
    disguised_weight: NonNegativeFloat = 0.5
    """Of the loss of disguised fakes; that of the client's own rows has 1. At 0 there are none."""
    inverted_weight: NonNegativeFloat = 0.25
    """Of the loss of inverted fakes. At 0 there are none."""
    mislabelled: bool = True
    """Whether an inverted fake is labelled as another of the client's classes, drawn at random, or as its own."""
    steps: PositiveInt = 50
    """Of Adam, that move a sample."""
    latent_rate: PositiveFloat = 0.05
    """Of Adam, for disguised fakes, in units of the latents' deviation."""
    pixel_rate: PositiveFloat = 0.02
    """Of Adam, for inverted fakes, in units of the range of a pixel."""
    least_rows: Annotated[int, Field(ge=2)] = 50
    """A client with fewer rows makes none."""
    generator: LabelledGenerator = ConditionalGan()
    """Who makes the samples; one that takes labels."""
    epochs: PositiveInt = 20
    """Passes over the public images before round 1, and again by each client's classifier of them; and over its own
    rows by the other one."""
    batch_size: Annotated[int, Field(ge=2)] = 32
    """Of these passes."""
    learning_rate: PositiveFloat = 0.001
    """Of these passes, by Adam."""
    continual: bool = False
    """Whether the client's blocks are held back from leaving what they were before the fakes (the "++" version), by
    elastic weight consolidation."""
    continual_weight: PositiveFloat = 1.0
    """Of that penalty, half of the squared distances, each times the parameter's share of the largest Fisher
    information."""

    @property
    def needs_public_images(self) -> bool:
        """To learn from, and to look like."""
        return True

    @property
    def changes_gradients(self) -> bool:
        """By the penalty's own."""
        return self.continual

    @property
    def caveat(self) -> str:
        """What fakes do not cover, and what their training seconds may lack."""
        covers = "fakes mislead who inverts the model: they take nothing away from what crosses of the image being sent"
        return f"{covers}; {SPARED}"

    def build(self, model: Model, cut: str) -> tuple[Model, str]:
        """The same model; where it learns continually, with room for what the client's blocks are not to forget."""
        return (_Remembering(inner=model, last=cut), cut) if self.continual else (model, cut)

    def warm_start(self, blocks: Segment, public: Images, rng: Generator) -> tuple[str, ...]:
        """Trains all blocks but the last one on public images and labels; freezes none."""
        *body, _ = blocks.blocks()
        with drawn_from(rng):
            network = self._pretraining.on_public(Segment(OrderedDict(body)), public, self.kind)
            _settle([module for module in blocks.modules() if isinstance(module, Anchored)], network.eval(), public)
        return ()

    def augment(self, data: Holding, public: Images, model: nn.Module, rng: Generator) -> Holding:
        """The client's rows, and behind them both kinds of fakes."""
        made = round(self.share * len(data))
        if len(data) < self.least_rows or not made:
            return data
        seeds = Seeds(int(torch.randint(2**62, (), generator=rng)))
        like = next(chain(model.parameters(), model.buffers()), data.pixels)
        imitation = imitated(self.generator, data, like.device, seeds.child("generator"))
        found = data
        if self.disguised_weight:
            pixels, labels = self._disguised(imitation, made, public, model, seeds.child("disguised"))
            found = found.with_made(pixels, labels, self.disguised_weight * len(data) / made)
        if self.inverted_weight:
            pixels, labels = self._inverted(imitation, made, data, model, seeds.child("inverted"))
            found = found.with_made(pixels, labels, self.inverted_weight * len(data) / made)
        return found

    def after_backward(self, segment: nn.Module, step: ClientStep, rng: Generator) -> None:
        """Adds the gradient of the penalty, which hangs on the weights alone."""
        del step, rng
        for module in segment.modules():
            if isinstance(module, Anchored):
                module.pull(self.continual_weight)

    def _disguised(
        self, imitation: Imitation, made: int, public: Images, model: nn.Module, seeds: Seeds
    ) -> tuple[Tensor, Tensor]:
        with seeds.fork("classifier"):
            classifier = self._pretraining.on_public(deepcopy(model), public, self.kind)
        own = imitation.asked(made, seeds("labels"))
        labels, there = imitation.classes[own], public.labels.unique()
        # A public class of the same number may be the very same class.
        others = (there != labels[:, None]).double()
        others[others.sum(dim=1) == 0] = 1
        wanted = there[others.multinomial(1, generator=seeds("public classes"))[:, 0]]
        made_of = imitation.synthesizer

        def taken_for(latents: Tensor, own: Tensor, wanted: Tensor) -> Tensor:
            return _mistaken(classifier, made_of(latents, own), wanted)

        latents = made_of.draw(made, seeds("latents"))
        given = own.to(latents.device), wanted.to(latents.device)
        with seeds.fork("descent"), torch.no_grad():
            classifier.eval().requires_grad_(requires_grad=False)
            latents = self._moved(taken_for, latents, given, torch.add, self.latent_rate)
            some = zip(latents.split(_AT_ONCE), given[0].split(_AT_ONCE), strict=True)
            return torch.cat([made_of(*each) for each in some]), labels

    def _inverted(
        self, imitation: Imitation, made: int, data: Holding, model: nn.Module, seeds: Seeds
    ) -> tuple[Tensor, Tensor]:
        count = len(imitation.classes)
        with seeds.fork("stand-in"):
            words = "learning what there is to invert"
            standing_in = self._pretraining.run(deepcopy(model), data.pixels, imitation.own, count, words)
        own = imitation.asked(made, seeds("labels"))

        def recognised(pixels: Tensor, own: Tensor) -> Tensor:
            return _mistaken(standing_in, pixels, own)

        def pixelwise(clean: Tensor, change: Tensor) -> Tensor:
            return (clean + change).clamp(0, 1)

        pixels = imitation.synthesizer.sample(made, seeds("latents"), own)
        with seeds.fork("descent"):
            standing_in.eval().requires_grad_(requires_grad=False)
            pixels = self._moved(recognised, pixels, (own.to(pixels.device),), pixelwise, self.pixel_rate)
        if self.mislabelled and count > 1:
            own = (own + torch.randint(1, count, (made,), generator=seeds("wrong labels"))) % count
        return pixels, imitation.classes[own]

    def _moved(
        self, loss: Callable[..., Tensor], start: Tensor, given: tuple[Tensor, ...], step: Step, rate: float
    ) -> Tensor:
        parts = zip(*(each.split(_AT_ONCE) for each in (start, *given)), strict=True)
        return torch.cat(
            [
                minimised(lambda moved, rest=rest: loss(moved, *rest), some, step, 1.0, self.steps, rate)
                for some, *rest in parts
            ]
        )

    @property
    def _pretraining(self) -> Pretraining:
        return Pretraining(self.epochs, self.batch_size, self.learning_rate)


class _Remembering(Model):
    inner: AnyModel
    last: str

    def blocks(self, shape: Shape, classes: int) -> "OrderedDict[str, nn.Module]":
        """Those of the inner model, anchored up to the cut where they have parameters."""
        found = self.inner.blocks(shape, classes)
        for name, block in found.items():
            if next(block.parameters(), None) is not None:
                found[name] = Anchored(block)
            if name == self.last:
                break
        return found


def _mistaken(classifier: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    like = next(classifier.parameters())
    return functional.cross_entropy(classifier(images.to(like)), labels, reduction="sum")


def _settle(anchored: list[Anchored], network: nn.Module, public: Images) -> None:
    """How much the classification of some public images hangs on each parameter, as a share of the most."""
    if not anchored:
        return
    like = next(network.parameters())
    named = {
        f"{block} {number}": parameter
        for block, one in enumerate(anchored)
        for number, parameter in enumerate(one.block.parameters())
    }
    some = public.at(torch.randperm(len(public))[:_STUDIED])
    found = fisher_diagonal(
        lambda image, label: functional.cross_entropy(network(image), label),
        named,
        some.pixels.to(like),
        some.labels.to(like.device),
    )
    most = max(float(values.max()) for values in found.values()) or 1.0
    for block, one in enumerate(anchored):
        one.settle([found[f"{block} {number}"] / most for number, _ in enumerate(one.block.parameters())])
