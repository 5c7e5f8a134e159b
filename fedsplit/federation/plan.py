"""Everything that all parties of a federation agree on before the first round; serialisable as settings."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from functools import lru_cache
from typing import Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from fedsplit.component import Settings
from fedsplit.defenses.base import AnyDefense
from fedsplit.errors import EngineError
from fedsplit.federation.hijacking import Hijacking
from fedsplit.federation.optimizer import Optimizer
from fedsplit.models.base import AnyModel, Model
from fedsplit.numerics.allocation import keep_freed_memory
from fedsplit.numerics.finite import all_finite
from fedsplit.numerics.threads import threaded
from fedsplit.records.images import Shape
from fedsplit.seeding import Seeds
from fedsplit.split import Home, Segment, Segments, split

State = dict[str, Tensor]
"""Parameters and buffers by name."""

Precision = Literal["float32", "float64", "bfloat16"]
"""bfloat16: mixed, as torch's autocast does it, at the steps of a training alone. Images, parameters, optimisers, all
that crosses the cut and whatever happens after the training are float32."""
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}


class Plan(Settings):
    """The model, where it is cut, the defense, and how segments are optimised."""

    model: AnyModel
    cut: str
    head: str | None = None
    """The first block that stays at the client with the labels (U-shaped); None where the server ends the model."""
    defense: AnyDefense
    optimizer: Optimizer
    shape: Shape
    """(channels, height, width) of the images."""
    classes: PositiveInt
    seed: NonNegativeInt
    threads: PositiveInt = 1
    """Threads of torch in every worker. Sums are ordered by it, so it is part of what a result depends on."""
    precision: Precision = "float32"
    device: str = "cpu"
    frozen: tuple[str, ...] = ()
    """Blocks that the warm start froze: no gradient, evaluation mode, wherever a segment is loaded."""
    hijacking: Hijacking | None = None
    """Who answers in the server's place, where an active attack has it; known to the server alone."""

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of images and parameters."""
        return DTYPES[self.precision]

    @property
    def seeds(self) -> Seeds:
        """The random streams of this victim training."""
        return Seeds(self.seed)

    def segments(self) -> Segments:
        """Fresh segments, initialised from the stream "model", on the plan's device."""
        # On the meta device a cut is only tried out: there are no values that could be kept or moved.
        if torch.get_default_device().type == "meta":
            return _built(*self._recipe)
        segments = deepcopy(self._pattern)
        segments.whole.to(self.device)
        return segments

    def home(self) -> Home:
        """Only what a client holds of fresh segments: many clients may be there at once, and servers may be large."""
        home = deepcopy(self._pattern.home)
        home.whole.to(self.device)
        return home

    @property
    def _pattern(self) -> Segments:
        # Settings are frozen, so a model has a hash, which their type does not tell.
        return _kept(*self._recipe)  # pyright: ignore[reportArgumentType]

    @property
    def _recipe(self) -> "_Recipe":
        model, cut = self.defense.build(self.model, self.cut)
        return model, cut, self.head, self.shape, self.classes, self.seeds, self.dtype

    def prepare(self, segment: Segment, state: State, *, training: bool) -> Segment:
        """Loads a state into a segment and applies the freeze. Raises KeyError or RuntimeError for a foreign state."""
        segment.load_state_dict(state)
        segment.train(training)
        for name, block in segment.blocks():
            if name in self.frozen:
                block.eval()
                block.requires_grad_(requires_grad=False)
        return segment

    def stepping(self) -> AbstractContextManager[object]:
        """Runs the forward pass of a training step as precisely as the plan says."""
        if self.precision != "bfloat16":
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, torch.bfloat16)

    @contextmanager
    def threaded(self) -> Iterator[None]:
        """Runs a block with the plan's number of torch threads."""
        keep_freed_memory()
        with threaded(self.threads):
            yield


_Recipe = tuple[Model, str, str | None, Shape, int, Seeds, torch.dtype]


def _built(
    model: Model, cut: str, head: str | None, shape: Shape, classes: int, seeds: Seeds, dtype: torch.dtype
) -> Segments:
    with seeds.fork("model"):
        blocks = model.blocks(shape, classes)
    for block in blocks.values():
        block.to(dtype=dtype)
    return split(blocks, cut, shape, head)


_kept = lru_cache(maxsize=1)(_built)
"""The last segments built: to draw initial weights takes longer than to copy them, and nobody gets more than a copy."""


def state_of(segment: Segment) -> State:
    """A copy of all parameters and buffers, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in segment.state_dict().items()}


def finite(state: State, at: str) -> State:
    """The same. Raises EngineError where a value is infinite or not a number. at: whose it is."""
    spoilt = next((name for name, value in state.items() if not all_finite(value)), None)
    if spoilt is not None:
        remedy = "lower optimizer.learning_rate, or look at what the defense adds"
        raise EngineError(f"{spoilt} is no longer finite", at=at, remedy=remedy)
    return state
