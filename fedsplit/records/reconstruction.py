"""What an attack hands back: its guess, and the evidence that it really worked for it."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Evidence:
    """Proof of work, judged by the controls.

    losses: the attacker's training loss step by step, for attacks that train. before, after: fingerprints of the
    attacker's parameters. settings: what the attacker chose by its validation images, in words.
    """

    losses: tuple[float, ...] = ()
    before: str = ""
    after: str = ""
    settings: str = ""


@dataclass(frozen=True)
class Reconstruction:
    """images: (targets, channels, height, width), in the order of the leak; clamped to [0, 1] by the metrics.

    unguided: as many, what the same attacker would have guessed without a leak; None where that is the mean of its own
    images.
    """

    images: Tensor
    evidence: Evidence = Evidence()
    unguided: Tensor | None = None
