"""A trained generator of images in two parts, from latents to styles and from styles to images (after Karras, Laine and
Aila, "A style-based generator architecture for generative adversarial networks", CVPR 2019)."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

_BATCH = 256


@dataclass(frozen=True)
class Progress:
    """How far a training is. step: of how many steps at most. loss: of the generator, critic_loss: of what judges it,
    means since the last report. quality: a distance of samples from held-out images, the smaller the better; None
    where none were held out."""

    step: int
    steps: int
    loss: float
    critic_loss: float
    quality: float | None


Tell = Callable[[Progress], None]


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
