"""Random streams by name: adding a user of randomness never changes what another one draws."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Generator


@contextmanager
def drawn_from(rng: Generator) -> Iterator[None]:
    """Runs a block whose global draws on the CPU are the next ones of this CPU stream, which goes on behind them.

    The global state is as before when the block ends; a block that draws nothing leaves the stream where it was.
    """
    before = torch.default_generator.get_state()
    torch.default_generator.set_state(rng.get_state())
    try:
        yield
    finally:
        rng.set_state(torch.default_generator.get_state())
        torch.default_generator.set_state(before)


@dataclass(frozen=True)
class Seeds:
    """All random streams of one experiment, derived from `root` by hashing a path of names.

    `seeds("train", 3, 7)` is a fresh CPU generator, the same one wherever and whenever it is asked for.
    """

    root: int
    path: tuple[str, ...] = ()

    def __call__(self, *name: str | int) -> Generator:
        """A fresh generator for the stream `name`."""
        return Generator().manual_seed(self.number(*name))

    def child(self, *name: str | int) -> "Seeds":
        """The streams below `name`."""
        return Seeds(self.root, (*self.path, *(str(part) for part in name)))

    def number(self, *name: str | int) -> int:
        """The stream's seed, below 2**63."""
        text = "/".join((str(self.root), *self.path, *(str(part) for part in name)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    @contextmanager
    def fork(self, *name: str | int) -> Iterator[None]:
        """Runs a block whose global draws (initialisation, dropout) come from the stream `name`.

        The global state of the CPU and of every GPU in use is as before when the block ends.
        """
        # By the generators themselves, as small steps take no longer than torch.random.fork_rng and torch.manual_seed,
        # which look at every kind of device and format a stack trace for it.
        generators = [torch.default_generator, *(torch.cuda.default_generators if torch.cuda.is_initialized() else ())]
        states = [generator.get_state() for generator in generators]
        number = self.number(*name)
        try:
            torch.default_generator.manual_seed(number)
            if torch.cuda.is_available():
                torch.cuda.manual_seed_all(number)
            yield
        finally:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)
