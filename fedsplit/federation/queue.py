"""Which of many errands a free worker does next."""

from collections.abc import Iterable, Sequence

from fedsplit.federation.errand import Errand

_AHEAD = 3
"""So many errands per worker beyond the first may be done for others before these: what they give takes memory."""


class Queue:
    """Errands on their way to several workers, in the order in which they stand, save that one that is done for others
    alone goes first.

    Done in its turn, the last of these would keep those after it waiting while the other workers have nothing to do.
    """

    def __init__(self, errands: Sequence[Errand], workers: int, done: Iterable[str] = ()) -> None:
        """done: the names of errands from before that some come after."""
        self._waiting = list(errands)
        self._running: dict[str, Errand] = {}
        self._done = set(done)
        self._passing = {errand.name for errand in errands if not errand.kept}
        self._workers = workers

    def __bool__(self) -> bool:
        """Whether an errand waits or is being done."""
        return bool(self._waiting or self._running)

    @property
    def awaited(self) -> set[str]:
        """The names of errands, done or not, whose files those still need that wait."""
        return {name for errand in self._waiting for name in errand.after}

    def next(self) -> Errand | None:
        """The one that a worker begins now; None where all workers are at work, or nothing can be begun."""
        if len(self._running) == self._workers:
            return None
        ready = [errand for errand in self._waiting if self._done >= set(errand.after)]
        ahead = len(self._passing & (self._done & self.awaited | self._running.keys()))
        leading = [errand for errand in ready if not errand.kept] if ahead < _AHEAD * (self._workers - 1) else []
        for errand in leading or ready:
            self._waiting.remove(errand)
            self._running[errand.name] = errand
            return errand
        return None

    def finish(self, errand: Errand) -> None:
        """It is done, and those that come after it can be begun."""
        self._done.add(self._running.pop(errand.name).name)
