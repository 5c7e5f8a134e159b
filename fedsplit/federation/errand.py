"""A piece of work that any process can do which has fedsplit and the same files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Protocol

from fedsplit.component import Settings

Files = Mapping[str, bytes]
"""What an errand gives: contents by file name, in the order in which they are to be written."""


class Deferred(Mapping[str, bytes]):
    """Files that are made when somebody looks inside: mostly nobody does."""

    def __init__(self, make: Callable[[], dict[str, bytes]]) -> None:
        self._make = make

    def __getitem__(self, name: str) -> bytes:
        return self._files[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    @cached_property
    def _files(self) -> dict[str, bytes]:
        return self._make()


Handed = Mapping[str, Files]
"""What other errands gave, by their names."""


class Errand(Settings):
    """A function by its name, and all it needs as text and as what other errands gave."""

    name: str
    """Unique among the errands that are done together; may hold slashes, as a path does."""
    function: str
    """`package.module:function` of a text and what is handed over (`Handed`) that returns Files."""
    settings: str
    """The text."""
    after: tuple[str, ...] = ()
    """The errands whose files are handed over: they are done before this one begins."""
    kept: bool = True
    """Whether what it gives goes back to whoever asked for it, and not only to the errands after it."""


class Doer(Protocol):
    """Does an errand in this process."""

    def __call__(self, errand: Errand, handed: Handed) -> Files:
        """handed: what the errands gave that this one comes after."""
        ...


def one_by_one(errands: Sequence[Errand], do: Doer) -> Iterator[tuple[str, Files]]:
    """All errands in the order given, in which those that come after others follow them; (name, what it gave) of those
    that are kept."""
    given: dict[str, Files] = {}
    for place, errand in enumerate(errands):
        files = given[errand.name] = do(errand, {name: given[name] for name in errand.after})
        wanted = {name for later in errands[place + 1 :] for name in later.after}
        given = {name: files for name, files in given.items() if name in wanted}
        if errand.kept:
            yield errand.name, files
