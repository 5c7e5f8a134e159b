"""A generator that needs no training, for attacks by generators: soft bars whose angle and place are the style."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from fedsplit.generators.base import ImageGenerator
from fedsplit.layers.synthesizer import Block, ChainedSynthesizer, Stage, Synthesizer, Tell, nothing
from fedsplit.records.images import Shape
from fedsplit.records.leak import Auxiliary, Leak
from fedsplit.seeding import Seeds

SHAPE = (1, 12, 12)
CLASSES = 3


class BarSynthesizer(ChainedSynthesizer):
    """Styles (n, 2): the angle of a bar, and how far it is from the middle."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(latents=2, style_width=2)
        self.shape = shape

    def mapping(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return latents

    @property
    def blocks(self) -> tuple[Block, ...]:
        return (
            lambda stage, styles: Stage(distances(stage.features, self.shape)),
            lambda stage, styles: Stage(bright(stage.features, self.shape)),
        )


class Bars(ImageGenerator):
    """Makes what it always makes, whatever it is shown."""

    def network(self, shape: Shape, classes: int | None) -> Synthesizer:
        return BarSynthesizer(shape)

    def fit(self, images: Tensor, labels: Tensor | None, seeds: Seeds, tell: Tell = nothing) -> Synthesizer:
        shape = images.shape[1:]
        return self.network((shape[0], shape[1], shape[2]), None).eval()


def bars(styles: Tensor, shape: Shape) -> Tensor:
    return bright(distances(styles, shape), shape)


def distances(styles: Tensor, shape: Shape) -> Tensor:
    """(n, height, width), of every pixel from the bar."""
    _, height, width = shape
    down = torch.linspace(-1, 1, height, dtype=styles.dtype)[:, None]
    across = torch.linspace(-1, 1, width, dtype=styles.dtype)
    angle, place = styles[:, 0, None, None], styles[:, 1, None, None]
    return angle.cos() * across + angle.sin() * down - 0.3 * place


def bright(off: Tensor, shape: Shape) -> Tensor:
    return torch.exp(-off.square() / 0.08)[:, None].expand(-1, shape[0], -1, -1)


SMALL: dict[str, Any] = {
    "generator": Bars(),
    "truncation": 1.0,
    "candidates": 150,
    "starts": 12,
    "per_class": 6,
    "steps": 12,
    "learning_rate": 0.05,
    "views": 6,
    "student_samples": 600,
    "student_epochs": 10,
}


def kinds(styles: Tensor) -> Tensor:
    """Which of three ranges of angles a bar is in; a bar has no ends, so half a turn is no turn."""
    return ((styles[:, 0] % torch.pi) * CLASSES / torch.pi).long().clamp(max=CLASSES - 1)


def made(count: int, seed: int) -> tuple[Tensor, Tensor]:
    styles = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))
    styles[:, 0] = torch.rand(count, generator=torch.Generator().manual_seed(seed + 1)) * torch.pi
    return bars(styles, SHAPE), kinds(styles)


@lru_cache(maxsize=1)
def bar_model() -> nn.Module:
    """Tells the classes apart, nearly always."""
    images, labels = made(1500, 0)
    with Seeds(0).fork("model"):
        network = nn.Sequential(nn.Flatten(), nn.Linear(144, 64), nn.ReLU(), nn.Linear(64, CLASSES))
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return network.eval()


def class_leak(model: nn.Module, *, weights: bool, dtype: torch.dtype = torch.float32) -> Leak:
    """Six images are wanted of each class."""
    images, labels = made(200, 10)
    images = images.to(dtype)

    def scores(some: Tensor, rng: torch.Generator) -> Tensor:
        with torch.no_grad():
            return model(some).softmax(dim=1)

    return Leak(
        kind="model",
        round=1,
        image_shape=SHAPE,
        classes=CLASSES,
        auxiliary=Auxiliary(images[:150], labels[:150], images[150:], labels[150:]),
        scores=scores,
        model=model if weights else None,
        wanted=torch.arange(CLASSES).repeat_interleave(6),
    )
