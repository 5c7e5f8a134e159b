"""The contract of an attack: leak in, reconstruction out, and which assets that takes."""

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Generator, Tensor, nn

from fedsplit.component import Component, Family
from fedsplit.records.leak import Asset, Leak, LeakKind
from fedsplit.records.reconstruction import Reconstruction

Check = Literal["parameters_moved", "loss_fell"]
"""Controls that make sense only for an attack that trains something."""


class Attack(Component):
    """Rebuilds the targets of a leak. It sees nothing but the leak."""

    needs: ClassVar[frozenset[Asset]]
    """The assets without which it cannot run. It may use others where they are granted."""
    level: ClassVar[Literal["instance", "class"]] = "instance"
    controls: ClassVar[frozenset[Check]] = frozenset()

    leak: LeakKind = "inference"
    """Which leak it attacks: one pass over the targets, or the recorded training steps."""
    rounds: Annotated[tuple[PositiveInt, ...], Field(max_length=100)] = ()
    """The rounds it attacks, from 1, one outcome each; empty: the last one."""

    def refuses(self, client: nn.Module) -> str:
        """Why it cannot attack a client of these modules, whatever their weights, in half a sentence; or nothing.

        Asked before any compute, of a segment without values."""
        del client
        return ""

    @abstractmethod
    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        """One image per target, in the order of the leak. May use `rng` alone for randomness; changes nothing in
        the leak."""


ATTACKS: Family[Attack] = Family("attacks", Attack)
AnyAttack = Annotated[Attack, ATTACKS]

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
