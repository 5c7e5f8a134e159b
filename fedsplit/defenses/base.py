"""The contract of a defense: eight moments in a model's life at which a client may act."""

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Generator, Tensor, nn

from fedsplit.component import Component, Family
from fedsplit.errors import ScenarioError
from fedsplit.layers.disturbed import Disturbed
from fedsplit.models.base import AnyModel, Model
from fedsplit.records.images import Holding, Images, Shape
from fedsplit.records.leak import Phase
from fedsplit.records.step import ClientStep, Draws, Passage, ServerStep
from fedsplit.split import Segment, Segments

Sampling = Literal["shuffled", "poisson"]
"""How rows come into batches. shuffled: each once per epoch. poisson: each into every batch with the same chance."""


Answer = Callable[[Tensor, Tensor], Tensor]
"""(images, confidences) -> the released confidence vectors."""


@dataclass(frozen=True)
class Deployed:
    """How one client answers once training is over.

    release: (smashed, rng) -> what leaves at the cut, the same shape. answer: (images, confidences) -> the released
    confidence vectors, (n, classes) on the simplex.
    """

    release: Callable[[Tensor, Generator], Tensor]
    answer: Answer


class Defense(Component):
    """What a client does about its leak. Every hook is a no-op here; a member overrides the one or two it needs.

    This is the one base whose concrete methods may be overridden.
    """

    active: Literal["training", "inference", "both"] = "both"
    """When `release` acts. Refused for a defense that releases its smashed data as they are."""

    def model_post_init(self, context: object) -> None:
        """Refuses a setting that would do nothing."""
        del context
        if self.active != "both" and not self.releases:
            raise ValueError("`active` has no effect: this defense does not change what it releases")

    @property
    def releases(self) -> bool:
        """Whether this defense changes what leaves at the cut."""
        return type(self).release is not Defense.release

    @property
    def augments(self) -> bool:
        """Whether this defense changes what its clients train on."""
        return type(self).augment is not Defense.augment

    @property
    def changes_gradients(self) -> bool:
        """Whether this defense changes the client's gradients, and so is told the one at the smashed data."""
        return type(self).after_backward is not Defense.after_backward

    @property
    def changes_server_gradients(self) -> bool:
        """Whether this defense changes the server's gradients, and so is told the one at what the server puts out."""
        return type(self).after_server_backward is not Defense.after_server_backward

    @property
    def acts_in_training(self) -> bool:
        """Whether any of its moments lies in a client's rounds, or makes rows for them."""
        penalises = (
            type(self).client_penalty is not Defense.client_penalty
            or type(self).server_penalty is not Defense.server_penalty
        )
        steps = type(self).after_step is not Defense.after_step
        gradients = self.changes_gradients or self.changes_server_gradients
        return self.augments or penalises or gradients or steps or bool(self.releasing("training"))

    @property
    def claims_privacy(self) -> bool:
        """Whether anything is to be said of what is proven of the weights."""
        return type(self).privacy is not Defense.privacy

    @property
    def samples(self) -> Sampling:
        """How it wants the rows of its clients to come into batches."""
        return "shuffled"

    @property
    def deploys(self) -> bool:
        """Whether, once training is over, its clients answer in another way than by `release`, each in its own."""
        return type(self).deploy is not Defense.deploy

    @property
    def needs_server_labels(self) -> bool:
        """Whether it is nothing where the labels stay at the client (U-shaped)."""
        return False

    @property
    def noise_variance(self) -> float | None:
        """Of independent noise of mean zero that `release` adds to every value; None where it does anything else."""
        return None

    @property
    def needs_public_images(self) -> bool:
        """Whether it is nothing where no image is public."""
        return False

    def refuses(self, segments: Segments, before: tuple["Defense", ...] = ()) -> str:
        """Why it cannot act in these segments of its row, in half a sentence; or nothing. Asked before any compute.

        before: the members of the same row that change what leaves at the cut before it does.
        """
        del segments, before
        return ""

    @property
    def caveat(self) -> str:
        """What nobody is to take from its row, for the card that a run begins with; nothing where its name says all."""
        return ""

    def privacy(self, segments: Segments, draws: Sequence[Draws], spoilt: str) -> str:
        """In words, what is proven of the weights after a training, or why nothing is; empty where nothing is claimed.

        draws: of each client. spoilt: why nothing is proven here, whatever its noise is; or nothing.
        """
        del segments, draws, spoilt
        return ""

    def build(self, model: Model, cut: str) -> tuple[Model, str]:
        """Changes the architecture by wrapping the model; returns it with the name of its last client block."""
        return model, cut

    def warm_start(self, blocks: Segment, public: Images, rng: Generator) -> tuple[str, ...]:
        """Before round 1: trains all blocks of the model in place; returns the names of frozen blocks."""
        del blocks, public, rng
        return ()

    def augment(self, data: Holding, public: Images, model: nn.Module, rng: Generator) -> Holding:
        """Once per client, before its first round. Rows that are added carry their own weight and row -1."""
        del public, model, rng
        return data

    def release(self, smashed: Tensor, rng: Generator) -> Tensor:
        """(n, *cut shape) -> the same shape: whatever leaves at the cut. Differentiable where it can be."""
        del rng
        return smashed

    def client_penalty(self, step: ClientStep) -> Tensor:
        """A scalar that the client adds to the task loss of its own segment."""
        return torch.zeros((), dtype=step.smashed.dtype, device=step.smashed.device)

    def server_penalty(self, step: ServerStep) -> Tensor:
        """A scalar that the server adds to the task loss."""
        features = step.features[-1][1]
        return torch.zeros((), dtype=features.dtype, device=features.device)

    def after_backward(self, segment: nn.Module, step: ClientStep, rng: Generator) -> None:
        """Between the backward pass and the optimiser's step: may change the client segment's gradients."""

    def after_server_backward(self, segment: nn.Module, passage: Passage, rng: Generator) -> None:
        """The same at the server: may change the server segment's gradients."""

    def after_step(self, segment: nn.Module, step: ClientStep, rng: Generator) -> None:
        """After the optimiser's step: may change the client segment's parameters, but not those of frozen blocks, which
        alone are in evaluation mode."""

    def deploy(self, model: Segments, data: Holding, rng: Generator) -> Deployed:
        """After training, at each client, on its own rows, with the deployed model: how this client answers.

        model: all of it, the server's segment too, in evaluation mode, for this client to keep. data: on its device.
        """
        del model, data, rng
        return self.released("inference")

    def released(self, phase: Phase) -> Deployed:
        """How a client answers in this phase whose defense does no more than `release`."""
        members = self.releasing(phase)

        def release(smashed: Tensor, rng: Generator) -> Tensor:
            for member in members:
                smashed = member.release(smashed, rng)
            return smashed

        return Deployed(release=release, answer=lambda _, confidences: confidences)

    def releasing(self, phase: Phase) -> tuple["Defense", ...]:
        """The defenses whose `release` acts in this phase, left to right (a composition has several)."""
        return (self,) if self.releases and self.active in (phase, "both") else ()

    def changing(self, phase: Phase) -> tuple["Defense", ...]:
        """The defenses that change what leaves at the cut in this phase, by `release` or as they are deployed."""
        return self.releasing(phase)


class Noise(Defense):
    """What is released with noise. Abstract as `Defense` is: it only adds where the noise may act instead."""

    at: tuple[str, ...] = ()
    """Blocks of the whole model behind which the noise is injected instead, once training is over; none: what is
    released at the cut is noisy."""

    @property
    def releases(self) -> bool:
        """At the cut, unless it acts elsewhere."""
        return not self.at

    def build(self, model: Model, cut: str) -> tuple[Model, str]:
        """The model, its chosen blocks followed by noise. Behind the cut's own block it is the client's; it is part of
        the last block, so that the last hidden layer stays what it is."""
        if not self.at:
            return model, cut
        return _Injected(inner=model, at=self.at, noise=self), _disturbed(cut) if cut in self.at else cut

    @abstractmethod
    def release(self, smashed: Tensor, rng: Generator) -> Tensor:
        """(n, ...) -> the same shape, noisy."""


class _Injected(Model):
    inner: AnyModel
    at: tuple[str, ...]
    noise: Noise

    def blocks(self, shape: Shape, classes: int) -> "OrderedDict[str, nn.Module]":
        """Those of the inner model, each of the chosen ones but the last followed by one more."""
        inner = self.inner.blocks(shape, classes)
        if unknown := [name for name in self.at if name not in inner]:
            remedy = f"use names of {', '.join(inner)}"
            raise ScenarioError("no block of this name", at=f"{self.noise.kind}.at", value=unknown[0], remedy=remedy)
        if taken := [name for name in self.at if _disturbed(name) in inner]:
            remedy = "let one of them act elsewhere"
            reason = "is disturbed by two defenses of one row"
            raise ScenarioError(reason, at=f"{self.noise.kind}.at", value=taken[0], remedy=remedy)
        last = list(inner)[-1]
        found: OrderedDict[str, nn.Module] = OrderedDict()
        for name, block in inner.items():
            if name not in self.at:
                found[name] = block
            elif name == last:
                found[name] = nn.Sequential(block, Disturbed(self.noise.release))
            else:
                found |= {name: block, _disturbed(name): Disturbed(self.noise.release)}
        return found


def _disturbed(name: str) -> str:
    return f"{name}_disturbed"


DEFENSES: Family[Defense] = Family("defenses", Defense, sequence="composition")
AnyDefense = Annotated[Defense, DEFENSES]
