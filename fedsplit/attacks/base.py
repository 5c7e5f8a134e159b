"""The contract of an attack: leak in, reconstruction out, and which assets that takes; an active one also serves."""

import json
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from fedsplit.component import Component, Family, Trust
from fedsplit.records.images import Shape
from fedsplit.records.impostor import Impostor
from fedsplit.records.leak import Asset, Auxiliary, Leak, Level, Pairs
from fedsplit.records.reconstruction import Reconstruction

Check = Literal["parameters_moved", "loss_fell"]
"""Controls that make sense only for an attack that trains something."""


class Attack(Component):
    """Rebuilds the targets of a leak. It sees nothing but the leak."""

    needs: ClassVar[frozenset[Asset]]
    """The assets without which it cannot run. It may use others where they are granted."""
    level: ClassVar[Level] = "instance"
    controls: ClassVar[frozenset[Check]] = frozenset()

    leak: Literal["inference", "training"] = "inference"
    """Which leak it attacks at the cut: one pass over the targets, or the recorded training steps. Under a threat that
    looks elsewhere it attacks what that sees at inference."""
    rounds: Annotated[tuple[PositiveInt, ...], Field(max_length=100)] = ()
    """The rounds it attacks, from 1, one outcome each; empty: the last one."""

    @property
    def repeats(self) -> int:
        """How many answers to each image it waits for before it looks at their mean."""
        return 1

    @property
    def caveat(self) -> str:
        """What nobody is to take from its outcomes, for the card that a run begins with; or nothing."""
        return ""

    def wanted(self, classes: int) -> Tensor | None:
        """(targets,), the class that each image is to show; None where the images to rebuild are the leak's own."""
        del classes
        return None

    def refuses(self, client: nn.Module) -> str:
        """Why it cannot attack a client of these modules, whatever their weights, in half a sentence; or nothing.

        Asked before any compute, of a segment without values."""
        del client
        return ""

    def unfit(self, shape: Shape) -> str:
        """Why it cannot rebuild images of this shape, in half a sentence; or nothing. Asked before any compute."""
        del shape
        return ""

    @abstractmethod
    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        """One image per target, in the order of the leak. May use `rng` alone for randomness; changes nothing in
        the leak."""


class ClassAttack(Attack):
    """Rebuilds what the classes of a deployed model look like (`Leak.wanted`), not one image or another."""

    level: ClassVar[Level] = "class"

    per_class: PositiveInt = 50
    """Images that it hands back of each class."""

    def wanted(self, classes: int) -> Tensor:
        """(classes * per_class,), class after class."""
        return torch.arange(classes).repeat_interleave(self.per_class)


class ActiveAttack(Attack):
    """Has the server of a victim training of its own, from the first round on, and then rebuilds the targets from the
    leak of the last one and from what it learned meanwhile (`Leak.learned`, its impostor's memory)."""

    @abstractmethod
    def prepare(self, auxiliary: Auxiliary) -> dict[str, Tensor]:
        """What its impostor knows before the first round. Kept with every round's checkpoint, so better not all images
        of a large set."""

    @abstractmethod
    def hijack(self, memory: dict[str, Tensor]) -> Impostor:
        """What answers in the server's place for one round, wherever the server lives; it may keep `memory`."""


ATTACKS: Family[Attack] = Family("attacks", Attack)
AnyAttack = Annotated[Attack, ATTACKS]


class Wrapping(Attack):
    """Another attack, on something that is made of the leak first. Abstract as `Attack` is."""

    attack: AnyAttack
    """Which. Its leak and rounds are named beside it and not in it."""

    def model_post_init(self, context: object) -> None:
        """Refuses an attack that looks at what is not made for it."""
        del context
        if isinstance(self.attack, ActiveAttack):
            raise ValueError(f"`attack` is active ({self.attack.kind}): what it teaches its victim is no answer")
        if self.attack.level != "instance":
            raise ValueError(f"`attack` rebuilds classes ({self.attack.kind}), and nobody sends anything about a class")
        if self.attack.leak != "inference" or self.attack.rounds:
            raise ValueError("`attack` has a leak or rounds of its own: say them beside it")

    @property
    def needs(self) -> frozenset[Asset]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the attack needs."""
        return self.attack.needs

    @property
    def controls(self) -> frozenset[Check]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The attack's."""
        return self.attack.controls

    @property
    def repeats(self) -> int:
        """The attack's."""
        return self.attack.repeats

    @property
    def caveat(self) -> str:
        """The attack's."""
        return self.attack.caveat

    def refuses(self, client: nn.Module) -> str:
        """The attack's reason."""
        return self.attack.refuses(client)

    def unfit(self, shape: Shape) -> str:
        """The attack's reason."""
        return self.attack.unfit(shape)


def hijacked(settings: str, memory: dict[str, Tensor]) -> Impostor:
    """The impostor of an active attack (as JSON with its kind): what a plan calls by its name."""
    raw = json.loads(settings)
    attack = ATTACKS.find(raw.pop("kind"), Trust()).model_validate_json(json.dumps(raw))
    assert isinstance(attack, ActiveAttack), "only an active attack hijacks"
    return attack.hijack(memory)


_PROBES = 16
_CHUNK = 256


def release_varies(leak: Leak, rng: Generator) -> bool:
    """Whether asking the client twice about the same images gives two answers; False where it cannot be asked."""
    if leak.client_queries is None:
        return False
    probes = leak.auxiliary.images[:_PROBES]
    return not torch.equal(leak.client_queries(probes, rng), leak.client_queries(probes, rng))


def ask(leak: Leak, images: Tensor, rng: Generator) -> Tensor:
    """(n, channels, height, width) -> (n, *cut), what the client releases for them this time."""
    assert leak.client_queries is not None
    return torch.cat([leak.client_queries(some, rng) for some in images.split(_CHUNK)])


_LEAST_CONFIDENCE = 1e-12


Reads = Literal["confidences", "labels"]
"""What is looked at of an answer: its confidences, or which class has the largest of them and nothing else."""


def legible(leak: Leak, top: int | None = None, digits: int | None = None, reads: Reads = "confidences") -> Leak:
    """The same leak; where it is about confidences, with their logarithms in place of them, in which those of unlikely
    classes tell as much as those of likely ones (Yang, Zhang, Chang and Liang, CCS 2019), or with a one at the label.

    digits: to how many decimal digits confidences are rounded first; what comes to zero counts as half of the last one.
    top: how many of the largest confidences of a vector are then looked at, of equal ones those of the first classes;
    the others count as the least there is."""
    if leak.kind != "answers":
        return leak
    least = _LEAST_CONFIDENCE if digits is None else 0.5 * 10.0**-digits

    def logarithms(confidences: Tensor) -> Tensor:
        if digits is not None:
            confidences = confidences.double().round(decimals=digits).to(confidences)
        if top is not None:
            kept = confidences.argsort(dim=1, descending=True, stable=True)[:, :top]
            confidences = torch.zeros_like(confidences).scatter(1, kept, confidences.gather(1, kept))
        return confidences.clamp(min=least).log()

    return read(leak, _label if reads == "labels" else logarithms)


def _label(confidences: Tensor) -> Tensor:
    return F.one_hot(confidences.argmax(dim=1), confidences.shape[1]).to(confidences)


def read(leak: Leak, reading: Callable[[Tensor], Tensor]) -> Leak:
    """The same leak with what is seen, of targets, of pairs and in answer to queries, put in another way.

    reading: (n, *seen shape) -> (n, ...). Gradients stay those at what was seen."""
    smashed, pairs, queries = leak.smashed, leak.auxiliary_pairs, leak.client_queries
    return replace(
        leak,
        smashed=None if smashed is None else reading(smashed),
        auxiliary_pairs=None if pairs is None else Pairs(reading(pairs.smashed), reading(pairs.validation_smashed)),
        client_queries=None if queries is None else lambda images, rng: reading(queries(images, rng)),
    )
