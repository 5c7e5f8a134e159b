"""A trained generator of images in two parts, from latents to styles and from styles to images (after Karras, Laine and
Aila, "A style-based generator architecture for generative adversarial networks", CVPR 2019)."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

_BATCH = 256
_STYLES = 4096


@dataclass(frozen=True)
class Progress:
    """How far a training is. step: of how many steps at most. rate: of the generator; a training that diverged begins
    again with a lower one. loss: of the generator, critic_loss: of what judges it, means since the last report.
    quality: a distance of samples from held-out images, the smaller the better; None where none were held out."""

    step: int
    steps: int
    rate: float
    loss: float
    critic_loss: float
    quality: float | None


Tell = Callable[[Progress], None]


@dataclass(frozen=True)
class Stage:
    """What a block of a synthesis hands to the next one. features: (n, ...), the styles before the first block, the
    images behind the last. painted: what blocks have put into the image so far, where they add to one beside."""

    features: Tensor
    painted: Tensor | None = None


Block = Callable[[Stage, Tensor], Stage]
"""A stage, and (n, style width) -> the next stage."""


def chained(blocks: tuple[Block, ...], stage: Stage, styles: Tensor) -> Tensor:
    """The features behind the last of these blocks."""
    for block in blocks:
        stage = block(stage, styles)
    return stage.features


def nothing(progress: Progress) -> None:
    """Tells nobody."""
    del progress


class Synthesizer(nn.Module, ABC):
    """Latents -> styles -> images in [0, 1].

    latents: the width of a latent, which is drawn from N(0, I). classes: of a conditional one, whose mapping takes
    labels; else None. mean_style: (style width,), about which styles can be truncated: mean + psi (style - mean).
    """

    mean_style: Tensor

    def __init__(self, latents: int, style_width: int, classes: int | None = None) -> None:
        super().__init__()
        self.latents = latents
        self.classes = classes
        self.register_buffer("mean_style", torch.zeros(style_width))

    @abstractmethod
    def mapping(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """(n, latents), and (n,) where it is conditional -> (n, style width)."""

    @abstractmethod
    def synthesis(self, styles: Tensor) -> Tensor:
        """(n, style width) -> (n, channels, height, width) in [0, 1]: differentiable, and nothing in it is drawn."""

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The parts of a synthesis that is a chain of them, in their order; none where it is not."""
        return ()

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """(n, latents), and (n,) where it is conditional -> (n, channels, height, width) in [0, 1]."""
        return self.synthesis(self.mapping(latents, labels))

    def draw(self, count: int, rng: Generator) -> Tensor:
        """(count, latents), from N(0, I), where the weights are."""
        return torch.randn(count, self.latents, generator=rng).to(self.mean_style)

    @torch.no_grad()
    def sample(self, count: int, rng: Generator, labels: Tensor | None = None) -> Tensor:
        """(count, channels, height, width), without a gradient. A conditional one draws its labels where there are
        none."""
        latents = self.draw(count, rng)
        if self.classes is None:
            return torch.cat([self(some) for some in latents.split(_BATCH)])
        if labels is None:
            labels = torch.randint(self.classes, (count,), generator=rng)
        labels = labels.to(latents.device)
        return torch.cat([self(*some) for some in zip(latents.split(_BATCH), labels.split(_BATCH), strict=True)])

    def finished(self, labels: Tensor | None, rng: Generator) -> "Synthesizer":
        """Itself, in evaluation mode, frozen, and knowing its mean style. labels: that it learned with."""
        self.eval().requires_grad_(requires_grad=False)
        latents = self.draw(_STYLES, rng)
        chosen = None
        if labels is not None:
            chosen = labels[torch.randint(len(labels), (_STYLES,), generator=rng).to(labels.device)]
        with torch.no_grad():
            self.mean_style.copy_(self.mapping(latents, chosen).mean(dim=0))
        return self


class ChainedSynthesizer(Synthesizer):
    """One whose synthesis is a chain of blocks."""

    @property
    @abstractmethod
    def blocks(self) -> tuple[Block, ...]:
        """In their order: the first is handed the styles, the last makes the images."""

    def synthesis(self, styles: Tensor) -> Tensor:
        """(n, style width) -> (n, channels, height, width)."""
        return chained(self.blocks, Stage(styles), styles)
