"""What an active attack puts in the server's place."""

from abc import ABC, abstractmethod

from torch import Generator, Tensor


class Impostor(ABC):
    """Answers the clients through one round. It sees what they send up to the cut, and nothing else."""

    @abstractmethod
    def answer(self, smashed: Tensor, rng: Generator) -> tuple[Tensor, float]:
        """(n, *cut), as released -> the gradient that goes back for it, of the same shape, and the loss that it is of.

        The loss is a mean over the rows. May use `rng` alone for randomness.
        """

    @property
    @abstractmethod
    def memory(self) -> dict[str, Tensor]:
        """All that it goes on with in the next round, and that the attack rebuilds from in the end; detached."""
