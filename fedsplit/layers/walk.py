"""A walk backwards through a network of known weights: every layer undone in turn, as far as it can be.

Nothing is trained. What cannot be known (how far a step is off, what an output of zero hides) is measured on images of
one's own, which are walked in the same way and for which the truth at every layer is at hand.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fedsplit.layers.anchored import Anchored
from fedsplit.layers.disturbed import Disturbed
from fedsplit.layers.sparse_coding import SparseCodingLayer
from fedsplit.layers.undo import (
    Lesson,
    Sight,
    Undo,
    undo_batch_norm,
    undo_convolution,
    undo_linear,
    undo_nothing,
    undo_relu,
    undo_tanh,
)
from fedsplit.layers.undo_sparse import undo_sparse_coding

UNDOERS: dict[type[nn.Module], Callable[[nn.Module, Lesson], Undo]] = {
    nn.ReLU: undo_relu,
    nn.Tanh: undo_tanh,
    Disturbed: undo_nothing,
    nn.Identity: undo_nothing,
    nn.Dropout: undo_nothing,
    nn.Flatten: undo_nothing,
    nn.BatchNorm2d: undo_batch_norm,
    nn.Linear: undo_linear,
    nn.Conv2d: undo_convolution,
    SparseCodingLayer: undo_sparse_coding,
}
"""What can be undone, in evaluation mode; a subclass may do otherwise than its parent, and is not meant."""

_TRANSPARENT = (nn.Sequential, Anchored)
"""What does nothing but what is inside."""

_EXACT = 1e-3
_WITNESSES = 32


@dataclass(frozen=True)
class Leaf:
    """One layer of a network. name: the path of its module."""

    name: str
    module: nn.Module


def leaves(network: nn.Module, prefix: str = "") -> Iterator[Leaf]:
    """The layers of a network whose modules are applied one after the other; or of a network that is one layer."""
    if type(network) in UNDOERS:
        yield Leaf(prefix or type(network).__name__, network)
    for name, module in network.named_children():
        if type(module) in _TRANSPARENT:
            yield from leaves(module, f"{prefix}{name}.")
        else:
            yield Leaf(f"{prefix}{name}", module)


def unwalkable(layers: Iterable[Leaf]) -> Leaf | None:
    """The first layer that cannot be undone, if there is one."""
    return next((leaf for leaf in layers if not _walkable(leaf.module)), None)


def _walkable(module: nn.Module) -> bool:
    if type(module) is nn.Conv2d:
        square = all(len(set(one)) == 1 for one in (module.kernel_size, module.stride, module.padding))
        return square and module.groups == 1 and module.dilation == (1, 1) and module.padding_mode == "zeros"
    if type(module) is nn.BatchNorm2d:
        return module.track_running_stats
    return type(module) in UNDOERS


@dataclass(frozen=True)
class Step:
    """A layer with its undoing. noise: the variance of what is then known about the truth. error: its mean squared
    error on the images that it was learned from, relative to their variance."""

    leaf: Leaf
    undo: Undo
    noise: float
    error: float

    @property
    def exact(self) -> bool:
        """Whether the layer is undone but for rounding."""
        return self.error < _EXACT**2


@dataclass(frozen=True)
class Walk:
    """steps: from the last layer to the first. noise: the variance of what crossed about what the network gave."""

    steps: tuple[Step, ...]
    noise: float

    @torch.no_grad()
    def back(self, crossed: Tensor) -> tuple[Sight, ...]:
        """(n, *cut) -> what is known in front of each step's layer, in the order of the steps; float64."""
        seen, trail = Sight(crossed.double(), self.noise), list[Sight]()
        for step in self.steps:
            seen = replace(step.undo(seen), noise=step.noise)
            trail.append(seen)
        return tuple(trail)


@torch.no_grad()
def learn_walk(layers: tuple[Leaf, ...], images: Tensor, crossed: Tensor) -> Walk:
    """images: (n, *image), one's own, in the network's dtype. crossed: (n, *cut), of these.

    As long as a few witnesses among them are recovered exactly, the others need not walk: they are where they were.
    """
    truths = _forward(layers, images)
    rounding = float(torch.finfo(crossed.dtype).eps)
    bare, spread = truths[-1].double(), float(truths[-1].double().var())
    noise = float((crossed.double() - bare).square().mean())
    exact = noise <= _EXACT**2 * spread
    # A solver may stop a little elsewhere in another batch: a difference that small is none of the defense's.
    noise = rounding**2 * (spread or 1.0) if exact else noise
    seen, walk = Sight(bare if exact else crossed.double(), noise), Walk((), noise)
    for leaf, inputs, outputs in reversed(list(zip(layers, truths[:-1], truths[1:], strict=True))):
        lesson = Lesson(inputs.double(), outputs.double(), seen, rounding)
        undo = UNDOERS[type(leaf.module)](leaf.module, lesson)
        last = leaf is layers[0]
        seen, error = _rehearsed(undo, lesson, few=exact or last, last=last)
        spread = float(lesson.inputs.var()) or 1.0
        seen = replace(seen, noise=max(error, rounding**2 * spread))
        walk = Walk((*walk.steps, Step(leaf, undo, seen.noise, error / spread)), walk.noise)
        exact = exact and walk.steps[-1].exact
    return walk


def _forward(layers: tuple[Leaf, ...], images: Tensor) -> list[Tensor]:
    truths = [images]
    for leaf in layers:
        truths.append(leaf.module(truths[-1]))
    return truths


def _rehearsed(undo: Undo, lesson: Lesson, *, few: bool, last: bool) -> tuple[Sight, float]:
    """What is known in front of the layer, and its mean squared error where anything is."""
    if few:
        found = undo(_first(lesson.seen, _WITNESSES))
        truth = lesson.inputs[:_WITNESSES]
        error = _error(found, truth)
        if last or (found.known is None and error < _EXACT**2 * float(truth.var())):
            # The witnesses stay as they were found, so that the next step sees how far off it has to expect them.
            return replace(found, values=torch.cat([found.values, lesson.inputs[len(found.values) :]])), error
    found = undo(lesson.seen)
    return found, _error(found, lesson.inputs)


def _first(seen: Sight, count: int) -> Sight:
    return replace(seen, values=seen.values[:count], known=None if seen.known is None else seen.known[:count])


def _error(found: Sight, truth: Tensor) -> float:
    off = (found.values - truth).square()
    if found.known is None:
        return float(off.mean())
    return float((off * found.known).sum() / found.known.sum().clamp(min=1))
