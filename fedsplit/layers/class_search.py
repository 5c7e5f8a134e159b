"""Images of a class, looked for among those that a generator can make (Struppek, Hintersdorf, De Almeida Correia, Adler
and Kersting, "Plug & Play attacks: towards robust and flexible model inversion attacks", ICML 2022)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from fedsplit.layers.crops import Crops
from fedsplit.layers.synthesizer import Synthesizer
from fedsplit.numerics.hyperbolic import distance_to_class

_CHUNK = 256
_AGREEMENT = 0.9

Scores = Callable[[Tensor], Tensor]
"""(n, channels, height, width) -> (n, classes), confidences."""


@dataclass(frozen=True)
class Refined:
    """Of styles that were found, in their order. images: what comes of them. losses: of these, stage by stage, where
    there are stages between. moved: the share of images that are no more what the style alone makes."""

    images: Tensor
    losses: tuple[float, ...] = ()
    moved: float = 0.0


@dataclass(frozen=True)
class ClassSearch:
    """network: what makes images. model: images -> logits, with gradients. scores: what chooses.

    crops: what is seen of an image while it is moved, for so many steps of Adam. views: what is seen of it, so many
    times, when it is judged. batch_size: images that are moved at once.
    """

    network: Synthesizer
    model: nn.Module
    scores: Scores
    crops: Crops
    steps: int
    learning_rate: float
    views: Crops
    looks: int
    batch_size: int

    def moved(self, label: int, starts: Tensor, rng: Generator) -> tuple[Tensor, tuple[float, ...]]:
        """(n, style width) -> the same, nearer to the class; and the losses, step by step."""
        found: list[Tensor] = []
        steps: list[Tensor] = []
        for some in starts.split(self.batch_size):
            styles = some.clone().requires_grad_()
            optimizer = self.optimizer(styles, self.learning_rate)
            losses = torch.zeros(self.steps)
            for step in range(self.steps):
                distances = self.distances(self.crops.draw(self.network.synthesis(styles), rng), label)
                follow(distances, styles)
                optimizer.step()
                losses[step] = told(distances.detach()).sum().cpu() / len(starts)
            found.append(styles.detach())
            steps.append(losses)
        return torch.cat(found), tuple(torch.stack(steps).sum(dim=0).tolist())

    @torch.no_grad()
    def images(self, styles: Tensor) -> Tensor:
        """(n, style width) -> (n, channels, height, width)."""
        return torch.cat([self.network.synthesis(some) for some in styles.split(_CHUNK)])

    @torch.no_grad()
    def plainly(self, images: Tensor) -> Tensor:
        """(n, classes), the model's confidences in the images; where mirrors are as good, of them too."""
        views = (images, images.flip(-1)) if self.views.mirrored else (images,)
        return torch.stack([in_chunks(self.scores, some) for some in views]).mean(dim=0)

    @torch.no_grad()
    def robustly(self, images: Tensor, label: int, rng: Generator) -> Tensor:
        """(n,), the model's mean confidence in the class over many views of each image."""
        total = images.new_zeros(len(images))
        for _ in range(self.looks):
            total += in_chunks(self.scores, self.views.draw(images, rng))[:, label]
        return total / self.looks

    def distances(self, images: Tensor, label: int) -> Tensor:
        """(n,), how far the model finds each image from the class."""
        return distance_to_class(self.model(images), torch.full((len(images),), label, device=images.device))

    @staticmethod
    def optimizer(values: Tensor, rate: float) -> torch.optim.Optimizer:
        """As published."""
        return torch.optim.Adam([values], rate, betas=(0.1, 0.1))


def follow(distances: Tensor, values: Tensor) -> None:
    """Sets the gradient; to zero where there is none: a code of no active atom, say, does not hang on the image."""
    values.grad = torch.autograd.grad(distances.sum(), values, materialize_grads=True)[0]


def told(distances: Tensor) -> Tensor:
    """Distances grow like a logarithm towards the boundary, near which all classes lie: what is inside tells more."""
    return distances.cosh()


def in_chunks(scores: Scores, images: Tensor) -> Tensor:
    """The same scores, not of too many images at once."""
    return torch.cat([scores(some) for some in images.split(_CHUNK)])


@torch.no_grad()
def mirrors(scores: Scores, images: Tensor) -> bool:
    """Whether the model takes images and their mirrors for the same: letters have a left and a right, faces hardly."""
    seen, mirrored = (in_chunks(scores, some).argmax(dim=1) for some in (images, images.flip(-1)))
    return float((seen == mirrored).double().mean()) >= _AGREEMENT
