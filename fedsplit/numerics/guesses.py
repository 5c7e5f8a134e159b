"""Guesses at unknown images, judged by what the same procedure makes of images that are at hand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_LEAST_ERROR = 1e-10


@dataclass(frozen=True)
class Guess:
    """images: of the targets. judged: of the validation images, guessed in the same way. truth: those."""

    name: str
    images: Tensor
    judged: Tensor
    truth: Tensor

    @property
    def errors(self) -> Tensor:
        """(n,): the mean squared error of each validation image."""
        return (self.judged.clamp(0, 1) - self.truth).square().flatten(1).mean(dim=1)

    @property
    def error(self) -> float:
        """Their mean."""
        return float(self.errors.mean())

    @property
    def decades(self) -> Tensor:
        """(n,): the logarithms of the errors."""
        return self.errors.clamp(min=_LEAST_ERROR).log10()


def chosen(guesses: Sequence[Guess]) -> Guess:
    """The first, of those that are as good as the best but for a standard error (Breiman, Friedman, Olshen and Stone,
    "Classification and regression trees", 1984): few validation images favour what was fitted to examples."""
    # An error ten times smaller counts alike on every image, but none may be bought with a worse sum of squares.
    admitted = [guess for guess in guesses if guess.error <= guesses[0].error]
    best = min(admitted, key=lambda guess: float(guess.decades.mean()))

    def as_good(guess: Guess) -> bool:
        behind = guess.decades - best.decades
        return float(behind.mean()) <= float(behind.std(correction=0)) / len(behind) ** 0.5

    return next(guess for guess in admitted if as_good(guess))


def mixed(walked: Guess, linear: Guess) -> Guess:
    """Somewhere between the two. Each half of the validation images is guessed with what the other half has taught."""
    halves = [slice(None, half := len(walked.truth) // 2), slice(half, None)]
    judged = [
        _between(walked.judged[own], linear.judged[own], walked.truth[own])(walked.judged[rest], linear.judged[rest])
        for own, rest in zip(reversed(halves), halves, strict=True)
    ]
    between = _between(walked.judged, linear.judged, walked.truth)
    name = f"between the walk and {linear.name}"
    return Guess(name, between(walked.images, linear.images), torch.cat(judged), walked.truth)


def _between(walked: Tensor, linear: Tensor, truth: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Where two guesses are far apart it is the walk that went astray: how much of it is believed falls with the
    logarithm of their distance, along the line that is best for these images, (n, channels, height, width)."""
    away, distance = _apart(walked, linear)
    # Relative to the distance, so that an image counts by how much is believed, and not by how much is at stake.
    root = distance.exp().sqrt()[:, None]
    either, aim = away.flatten(1) / root, (truth - linear).flatten(1) / root
    columns = torch.stack([either, distance[:, None] * either], dim=2).flatten(0, 1)
    # Images that are all alike leave the line open.
    inverse = torch.linalg.pinv(columns.T @ columns, hermitian=True)
    offset, slope = inverse @ columns.T @ aim.flatten()

    def between(walked: Tensor, linear: Tensor) -> Tensor:
        away, distance = _apart(walked, linear)
        return linear + (offset + slope * distance).clamp(0, 1)[:, None, None, None] * away

    return between


def _apart(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Their difference, and the logarithm of its mean square for every image, (n,)."""
    away = one - other
    return away, away.square().flatten(1).mean(dim=1).clamp(min=_LEAST_ERROR).log()
