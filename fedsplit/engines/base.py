"""The contract of an engine: how a federation is executed.

To name an engine and to begin it imports nothing that computes, so that it can start while that is imported.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from fedsplit.component import Component, Family
from fedsplit.federation.errand import Doer, Errand, Files, Handed, one_by_one

if TYPE_CHECKING:
    from fedsplit.federation.trained import Trained
    from fedsplit.training import Training


class Engine(Component):
    """Runs a protocol over the parties. On a CPU every engine gives the same numbers, bit for bit."""

    grains: ClassVar[frozenset[Literal["round", "step"]]]
    """Which protocols it can run."""

    @property
    def gpu_share(self) -> float | None:
        """What of a GPU it hands to each process, which counts from zero those that it got; None where it hands out
        none."""
        return None

    def begin(self) -> None:
        """Starts what takes long to start, and returns at once: data can be loaded meanwhile."""
        return

    @abstractmethod
    def train(self, training: Training) -> Trained:
        """The whole training, from the checkpoint on. Raises EngineError where a client fails."""

    def spread(
        self, errands: Sequence[Errand], here: Doer, say: Callable[[str], None], supplies: Handed
    ) -> Iterator[tuple[str, Files]]:
        """Does every errand once, side by side where the engine has processes for it, each after those that it comes
        after, which stand before it; (name, what it gave) of those that are kept, as they end.

        here: does one in this process, which spares it loading what is loaded. say: is told when others begin.
        supplies: what an errand on another machine is handed, too, if it looks for it there.
        """
        del say, supplies
        return one_by_one(errands, here)


ENGINES: Family[Engine] = Family("engines", Engine)
AnyEngine = Annotated[Engine, ENGINES]
