"""What moves parameters along their gradients: the arithmetic of torch's optimisers, without their classes.

To make an object of such a class imports torch's compiler, which takes a second in every process.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

_DECAYS = (0.9, 0.999)
_SMALLEST_DIVISOR = 1e-8
_STEP, _FIRST, _SECOND, _MOMENTUM = "step", "exp_avg", "exp_avg_sq", "momentum_buffer"
"""What is known of a parameter, under the names that torch's optimisers have for it."""


class Mover(ABC):
    """An optimiser over those parameters of a module that may move."""

    def __init__(self, module: nn.Module, learning_rate: float, weight_decay: float) -> None:
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._learning_rate = learning_rate
        self._weight_decay = weight_decay
        self._known: list[dict[str, Tensor]] = [{} for _ in self._parameters]

    def zero_grad(self) -> None:
        """Forgets all gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Moves every parameter that has a gradient."""
        moved: list[Tensor] = []
        gradients: list[Tensor] = []
        known: list[dict[str, Tensor]] = []
        for parameter, entries in zip(self._parameters, self._known, strict=True):
            if parameter.grad is not None:
                moved.append(parameter)
                gradients.append(parameter.grad)
                known.append(entries)
        if moved:
            self._move(moved, gradients, known)

    @property
    def memory(self) -> dict[str, Tensor]:
        """Copies of what it knows, by "parameter number/name"."""
        return {
            f"{number}/{name}": value.clone()
            for number, entries in enumerate(self._known)
            for name, value in entries.items()
        }

    def remember(self, memory: Mapping[str, Tensor]) -> None:
        """Takes a copy of the `memory` of an optimiser over the same parameters."""
        for key, value in memory.items():
            number, _, name = key.partition("/")
            parameter = self._parameters[int(number)]
            # Steps are counted on the CPU, whatever the parameters are.
            own = value.clone() if name == _STEP else value.to(parameter, copy=True)
            self._known[int(number)][name] = own

    @abstractmethod
    def _move(self, moved: list[Tensor], gradients: list[Tensor], known: Sequence[dict[str, Tensor]]) -> None:
        """known: of each, empty before its first step."""


class AdamMover(Mover):
    """Adam."""

    def _move(self, moved: list[Tensor], gradients: list[Tensor], known: Sequence[dict[str, Tensor]]) -> None:
        for parameter, entries in zip(moved, known, strict=True):
            if not entries:
                entries.update(
                    {
                        _STEP: torch.tensor(0.0),
                        _FIRST: torch.zeros_like(parameter),
                        _SECOND: torch.zeros_like(parameter),
                    }
                )
        firsts, seconds, steps = ([entries[name] for entries in known] for name in (_FIRST, _SECOND, _STEP))
        adam(
            moved,
            gradients,
            firsts,
            seconds,
            [],
            steps,
            amsgrad=False,
            beta1=_DECAYS[0],
            beta2=_DECAYS[1],
            lr=self._learning_rate,
            weight_decay=self._weight_decay,
            eps=_SMALLEST_DIVISOR,
            maximize=False,
            fused=_fused(moved, gradients),
        )


class DescentMover(Mover):
    """Stochastic gradient descent."""

    def __init__(self, module: nn.Module, learning_rate: float, weight_decay: float, momentum: float) -> None:
        super().__init__(module, learning_rate, weight_decay)
        self._momentum = momentum

    def _move(self, moved: list[Tensor], gradients: list[Tensor], known: Sequence[dict[str, Tensor]]) -> None:
        momenta = [entries.get(_MOMENTUM) for entries in known]
        sgd(
            moved,
            gradients,
            momenta,
            weight_decay=self._weight_decay,
            momentum=self._momentum,
            lr=self._learning_rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            fused=_fused(moved, gradients),
        )
        for entries, momentum in zip(known, momenta, strict=True):
            if momentum is not None:
                entries[_MOMENTUM] = momentum


def _fused(moved: Sequence[Tensor], gradients: Sequence[Tensor]) -> bool | None:
    """Whether all is done to a parameter in one pass. None: torch chooses, as it does for other devices than the CPU.

    That pass goes through memory, and so takes it that a parameter and its gradient are laid out alike.
    """
    plain = all(tensor.is_cpu and tensor.is_contiguous() for tensor in (*moved, *gradients))
    return True if plain else None
