"""Asking again: the mean of several answers has less noise than one of them, which is what an adversary has against
noise at the cut (Titcombe, Hall, Papadopoulos and Romanini, 2021, add it)."""

from typing import Literal

from pydantic import PositiveInt
from torch import Generator

from fedsplit.attacks.base import Wrapping
from fedsplit.records.leak import Asset, Leak
from fedsplit.records.reconstruction import Reconstruction


class Averaging(Wrapping):
    """Another attack, on the mean of several answers to each image in place of one answer.

    Targets, pairs and queries are all averaged, so that the attack learns from what it will see. Independent noise of
    mean zero has 1 / answers of its variance left; what a defense does to every answer alike stays.
    """

    leak: Literal["inference"] = "inference"  # pyright: ignore[reportIncompatibleVariableOverride]
    """At a training step there is one answer to each image."""
    answers: PositiveInt = 16
    """To each image."""

    def model_post_init(self, context: object) -> None:
        """Refuses an attack that could not be averaged for."""
        Wrapping.model_post_init(self, context)
        if self.attack.repeats > 1:
            raise ValueError("`attack` has answers of its own: say them beside it")

    @property
    def title(self) -> str:
        """The attack, and of how many answers."""
        return f"{self.attack.title}, mean of {self.answers}"

    @property
    def needs(self) -> frozenset[Asset]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the attack needs, and repeated answers."""
        return self.attack.needs | {Asset.REPEATS}

    @property
    def repeats(self) -> int:
        """The answers."""
        return self.answers

    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        """The attack's, from a leak of means."""
        return self.attack.reconstruct(leak, rng)
