"""What is kept of a federation for the attacks: chosen rounds, chosen rows, nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedsplit.component import Settings
from fedsplit.federation.plan import State
from fedsplit.records.exchange import Exchange


class Recording(Settings):
    """Which rounds are kept, from 1. Rows are chosen where a client's holding says `watched`."""

    training: tuple[int, ...] = ()
    """Rounds whose exchanges are kept: each watched row once, in the first epoch of the round."""
    inference: tuple[int, ...] = ()
    """Rounds after which the segments are kept."""

    def keeps(self, round: int) -> bool:  # noqa: A002  (a round is a round)
        """Whether anything of this round is kept."""
        return round in self.training or round in self.inference


@dataclass(frozen=True)
class Page:
    """One recorded round: the client segment as broadcast, both segments as averaged, what each client returned.

    apart: by client, its own segment before and after the round, where clients never share theirs.
    """

    round: int
    broadcast: State
    client: State
    server: State
    returned: tuple[tuple[int, State], ...]
    exchanges: tuple[Exchange, ...]
    apart: dict[int, tuple[State, State]] = field(default_factory=dict)

    def before(self, client: int | None) -> State:
        """A client segment as the round began; None for the one that all clients share."""
        return self.broadcast if client is None else self.apart[client][0]

    def after(self, client: int | None) -> State:
        """The same as the round ended, which is what is deployed."""
        return self.client if client is None else self.apart[client][1]


@dataclass(frozen=True)
class Ledger:
    """All pages, in the order of rounds."""

    pages: tuple[Page, ...]

    def page(self, round: int) -> Page:  # noqa: A002
        """The page of a recorded round."""
        return next(page for page in self.pages if page.round == round)

    def until(self, round: int) -> Sequence[Page]:  # noqa: A002
        """The pages up to and including a round."""
        return [page for page in self.pages if page.round <= round]
