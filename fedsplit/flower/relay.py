"""Loops that run in one process and are watched in another."""

from collections.abc import Callable
from itertools import count

from fedsplit.flower.simulation import Progress
from fedsplit.progress import current


class Teller:
    """Where the loops run: hands on what becomes of each."""

    def __init__(self, tell: Callable[[Progress], None], name: str = "") -> None:
        """name: stands before every loop's description, and tells loops of several processes apart."""
        self._tell = tell
        self._name = name
        self._numbers = count()

    def started(self, description: str, total: int) -> str:
        """A loop of `total` steps begins."""
        loop = f"{self._name}#{next(self._numbers)}"
        text = f"{self._name}: {description}" if self._name else description
        self._tell(Progress(kind="started", loop=loop, text=text, total=total))
        return loop

    def advanced(self, loop: object) -> None:
        """The loop finished one step."""
        self._tell(Progress(kind="advanced", loop=str(loop)))

    def finished(self, loop: object) -> None:
        """The loop ended."""
        self._tell(Progress(kind="finished", loop=str(loop)))


class Shower:
    """Where somebody watches: repeats the loops for the observer of this process."""

    def __init__(self) -> None:
        self._observer = current()
        self._loops: dict[str, object] = {}

    def show(self, progress: Progress) -> None:
        """One step of one loop."""
        if self._observer is None:
            return
        if progress.kind == "started":
            # A process that died in the middle of this loop has not told its end.
            if progress.loop in self._loops:
                self._observer.finished(self._loops.pop(progress.loop))
            self._loops[progress.loop] = self._observer.started(progress.text, progress.total)
        elif progress.kind == "advanced":
            self._observer.advanced(self._loops[progress.loop])
        else:
            self._observer.finished(self._loops.pop(progress.loop))

    def close(self) -> None:
        """Ends what is still shown."""
        while self._loops and self._observer is not None:
            self._observer.finished(self._loops.popitem()[1])
