"""What answers shall teach an adversary's inversion network: to rebuild the client's other images worse (after Zhou,
Ye, Zhu and Zhou's alignment of poisoned gradients with those of a defensive loss)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsplit.layers.surrogate import Surrogate, train_surrogates
from fedsplit.numerics.poisoning import misalignment
from fedsplit.seeding import Seeds


@dataclass(frozen=True)
class Lesson:
    """surrogates: the networks that are taught. wanted: for each the gradient (parameters,) that its training shall
    have, of its loss on the private rows, turned round. seen: (n, *seen), what a client would answer for `images`, the
    rows it plays the adversary with."""

    surrogates: tuple[Surrogate, ...]
    wanted: tuple[Tensor, ...]
    seen: Tensor
    images: Tensor

    def misalignment(self, released: Tensor, images: Tensor) -> Tensor:
        """A scalar: one less the cosine of the gradients that these answers give and those that are wanted, on
        average over the surrogates."""
        pairs = zip(self.surrogates, self.wanted, strict=True)
        return torch.stack([misalignment(wanted, one.gradient(released, images)) for one, wanted in pairs]).mean()

    def directions(self, released: Tensor) -> tuple[Tensor, ...]:
        """How the misalignment changes with each surrogate's gradient, where `images` are answered so."""
        found: list[Tensor] = []
        with torch.enable_grad():
            for surrogate, wanted in zip(self.surrogates, self.wanted, strict=True):
                given = surrogate.gradient(released, self.images).detach().requires_grad_()
                found += torch.autograd.grad(misalignment(wanted, given), given)
        return tuple(direction / len(self.surrogates) for direction in found)

    def effects(self, directions: Sequence[Tensor], released: Tensor, images: Tensor) -> Tensor:
        """(n,): how each of further answers would change that misalignment, to first order, were it one row among
        many: it depends on no other row."""
        pairs = zip(self.surrogates, directions, strict=True)
        with torch.enable_grad():
            return torch.stack([one.slopes(released, images, direction) for one, direction in pairs]).sum(dim=0)

    def effect(self, directions: Sequence[Tensor], released: Tensor, images: Tensor) -> Tensor:
        """A scalar: the sum of them, for less."""
        pairs = zip(self.surrogates, directions, strict=True)
        every = torch.ones(len(released), dtype=released.dtype, device=released.device)
        return torch.stack([one.gradient(released, images, every) @ direction for one, direction in pairs]).sum()


def prepare_lesson(
    seen: Tensor, images: Tensor, passes: Sequence[int], rows: int, seeds: Seeds, *, logarithms: bool
) -> Lesson:
    """Of a client's own rows: it plays the adversary with half of them, at most so many, and protects as many others.

    A single row has to be both.
    """
    order = torch.randperm(len(seen), generator=seeds("halves")).to(seen.device)
    half = min(rows, len(seen) // 2)
    attacking, private = (order[:half], order[half : 2 * half]) if half else (order, order)
    surrogates = train_surrogates(seen[attacking], images[attacking], passes, seeds, logarithms=logarithms)
    with torch.enable_grad():
        wanted = tuple(-one.gradient(seen[private], images[private]).detach() for one in surrogates)
    return Lesson(surrogates, wanted, seen[attacking], images[attacking])
