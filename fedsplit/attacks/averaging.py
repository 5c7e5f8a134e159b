"""Asking again: the mean of several answers has less noise than one of them, which is what an adversary has against
noise at the cut (Titcombe, Hall, Papadopoulos and Romanini, 2021, add it)."""

from typing import Literal

from pydantic import PositiveInt
from torch import Generator, nn

from fedsplit.attacks.base import ActiveAttack, AnyAttack, Attack, Check
from fedsplit.records.leak import Asset, Leak
from fedsplit.records.reconstruction import Reconstruction


class Averaging(Attack):
    """Another attack, on the mean of several answers to each image in place of one answer.

    Targets, pairs and queries are all averaged, so that the attack learns from what it will see. Independent noise of
    mean zero has 1 / answers of its variance left; what a defense does to every answer alike stays.
    """

    leak: Literal["inference"] = "inference"  # pyright: ignore[reportIncompatibleVariableOverride]
    """At a training step there is one answer to each image."""
    attack: AnyAttack
    """Which; at inference, in the rounds that are named beside it and not in it."""
    answers: PositiveInt = 16
    """To each image."""

    def model_post_init(self, context: object) -> None:
        """Refuses an attack that could not be averaged for."""
        del context
        if isinstance(self.attack, ActiveAttack):
            raise ValueError(f"`attack` is active ({self.attack.kind}): what it teaches its victim is no answer")
        if self.attack.level != "instance":
            raise ValueError(
                f"`attack` rebuilds classes ({self.attack.kind}): nobody sends anything that could be sent again"
            )
        if self.attack.leak != "inference" or self.attack.rounds or self.attack.repeats > 1:
            raise ValueError("`attack` has a leak, rounds or answers of its own: say them beside it")

    @property
    def title(self) -> str:
        """The attack, and of how many answers."""
        return f"{self.attack.title}, mean of {self.answers}"

    @property
    def needs(self) -> frozenset[Asset]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the attack needs, and repeated answers."""
        return self.attack.needs | {Asset.REPEATS}

    @property
    def controls(self) -> frozenset[Check]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The attack's."""
        return self.attack.controls

    @property
    def repeats(self) -> int:
        """The answers."""
        return self.answers

    def refuses(self, client: nn.Module) -> str:
        """The attack's reason."""
        return self.attack.refuses(client)

    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        """The attack's, from a leak of means."""
        return self.attack.reconstruct(leak, rng)
