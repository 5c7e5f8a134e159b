"""An active attack that is quick and whose every answer can be told in advance."""

from typing import ClassVar

import torch
from torch import Generator, Tensor

from fedsplit.attacks.base import ActiveAttack
from fedsplit.records.impostor import Impostor
from fedsplit.records.leak import Asset, Auxiliary, Leak
from fedsplit.records.reconstruction import Evidence, Reconstruction


class Magnet(ActiveAttack):
    """Pulls all smashed data towards zero, and counts what it saw; guesses the mean of what it was given."""

    needs: ClassVar[frozenset[Asset]] = frozenset({Asset.SMASHED})

    strength: float = 1.0

    def prepare(self, auxiliary: Auxiliary) -> dict[str, Tensor]:
        return {"mean": auxiliary.images.mean(dim=0), "rows": torch.zeros((), dtype=torch.int64), "luck": torch.rand(0)}

    def hijack(self, memory: dict[str, Tensor]) -> Impostor:
        return _Pull(self.strength, memory)

    def reconstruct(self, leak: Leak, rng: Generator) -> Reconstruction:
        assert leak.smashed is not None and leak.learned is not None
        images = leak.learned["mean"].expand(len(leak.smashed), *leak.image_shape)
        return Reconstruction(images, Evidence(settings=f"{int(leak.learned['rows'])} rows seen"))


class _Pull(Impostor):
    def __init__(self, strength: float, memory: dict[str, Tensor]) -> None:
        self._strength = strength
        self._memory = memory

    def answer(self, smashed: Tensor, rng: Generator) -> tuple[Tensor, float]:
        self._memory["rows"] = self._memory["rows"] + len(smashed)
        self._memory["luck"] = torch.cat([self._memory["luck"], torch.rand(1, generator=rng)])
        loss = self._strength * smashed.square().flatten(1).sum(dim=1).mean() / 2
        return self._strength * smashed / len(smashed), float(loss)

    @property
    def memory(self) -> dict[str, Tensor]:
        return self._memory
