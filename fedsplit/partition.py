"""Who owns which rows: five disjoint roles of a data set, and the clients among whom the private rows are dealt."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Generator, Tensor

from fedsplit.component import Settings
from fedsplit.errors import DataError
from fedsplit.records.images import Images

_DRAWS = 200
"""How often a Dirichlet draw is repeated until every client has enough rows."""
_LEAST_ALPHA = 1e-300
"""To floats less is the same, one client for each class, but a logarithm divided by it might overflow."""

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Drawn:
    """Rows by role, disjoint, ascending. validation: the part of the adversary's rows by which it stops and chooses."""

    private: Tensor
    test: Tensor
    auxiliary: Tensor
    validation: Tensor
    public: Tensor
    evaluation: Tensor


class Roles(Settings):
    """Shares of the data set. A group of near-duplicates goes whole to one role."""

    private: Share = 0.5
    """The clients' rows."""
    test: Share = 0.15
    """Rows on which utility is measured."""
    auxiliary: Share = 0.25
    """The adversary's rows, its validation part included."""
    public: Share = 0.05
    """Rows that everybody may see: warm starts, generators."""
    evaluation: Share = 0.05
    """Rows on which the metrics' own networks are trained, seen by nobody else."""
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the auxiliary rows by which attackers stop and choose."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        shares = (self.private, self.test, self.auxiliary, self.public, self.evaluation)
        if sum(shares) > 1 + 1e-9:
            raise ValueError(f"the shares add up to {sum(shares):g}, which is more than 1")
        if not min(self.private, self.test, self.auxiliary) > 0:
            raise ValueError("private, test and auxiliary need a share above 0")
        return self

    def draw(self, images: Images, rng: Generator) -> Drawn:
        """Deals groups to roles, class by class, so that every role is a sample of the whole.

        Raises DataError where a role that has a share gets no row.
        """
        learned = self.auxiliary * (1 - self.validation)
        shares = {
            "private": self.private,
            "test": self.test,
            "auxiliary": learned,
            "validation": self.auxiliary - learned,
            "public": self.public,
            "evaluation": self.evaluation,
        }
        dealt = _dealt(images.labels, images.groups, tuple(shares.values()), rng)
        drawn = Drawn(**dict(zip(shares, dealt, strict=True)))
        for field in fields(drawn):
            if shares[field.name] > 0 and not len(getattr(drawn, field.name)):
                remedy = "use more images, a larger share, or smaller groups of near-duplicates"
                raise DataError(
                    f"gets no row of {len(images)}", at=f"roles.{field.name}", value=shares[field.name], remedy=remedy
                )
        return drawn


class Equal(Settings):
    """Rows are dealt at random; sizes differ by at most one."""

    kind: Literal["equal"] = "equal"
    clients: PositiveInt = 10

    def owners(self, labels: Tensor, minimum: int, rng: Generator) -> tuple[Tensor, ...]:
        """labels: (n,). -> for every client the positions that it owns, ascending, at least `minimum` of them."""
        order = torch.randperm(len(labels), generator=rng)
        return _enough([order[client :: self.clients] for client in range(self.clients)], minimum)


class ByClass(Settings):
    """Every client has rows of a few classes only (McMahan et al., AISTATS 2017)."""

    kind: Literal["by_class"] = "by_class"
    clients: PositiveInt = 10
    classes_per_client: PositiveInt = 2
    """How many classes a client has rows of; the classes are dealt in turn."""

    def owners(self, labels: Tensor, minimum: int, rng: Generator) -> tuple[Tensor, ...]:
        """labels: (n,). -> for every client the positions that it owns, ascending, at least `minimum` of them."""
        classes = labels.unique()
        kinds = classes[torch.randperm(len(classes), generator=rng)].tolist()
        if self.classes_per_client > len(kinds) or self.clients * self.classes_per_client < len(kinds):
            reason = f"cannot deal {len(kinds)} classes, {self.classes_per_client} to each of {self.clients} clients"
            raise DataError(reason, at="partition.classes_per_client", remedy="change it, or the number of clients")
        hands = [
            [kinds[(client * self.classes_per_client + turn) % len(kinds)] for turn in range(self.classes_per_client)]
            for client in range(self.clients)
        ]
        owned: list[list[Tensor]] = [[] for _ in hands]
        for kind in kinds:
            holders = [client for client, hand in enumerate(hands) if kind in hand]
            rows = _shuffled((labels == kind).nonzero().flatten(), rng)
            for turn, client in enumerate(holders):
                owned[client].append(rows[turn :: len(holders)])
        return _enough([torch.cat(parts) for parts in owned], minimum)


class Dirichlet(Settings):
    """Class shares of the clients are drawn from a Dirichlet distribution (Hsu, Qi, Brown, arXiv 1909.06335, 2019)."""

    kind: Literal["dirichlet"] = "dirichlet"
    clients: PositiveInt = 10
    alpha: PositiveFloat = 0.5
    """Concentration: large is alike, small is one class per client."""

    def owners(self, labels: Tensor, minimum: int, rng: Generator) -> tuple[Tensor, ...]:
        """labels: (n,). -> for every client the positions that it owns, ascending, at least `minimum` of them.

        The whole draw is repeated until every client has enough; DataError where that does not happen.
        """
        owned: list[Tensor] = []
        for _ in range(_DRAWS):
            owned = self._drawn(labels, rng)
            if min(map(len, owned)) >= minimum:
                break
        return _enough(owned, minimum)

    def _drawn(self, labels: Tensor, rng: Generator) -> list[Tensor]:
        owned: list[list[Tensor]] = [[] for _ in range(self.clients)]
        for kind in labels.unique():
            rows = _shuffled((labels == kind).nonzero().flatten(), rng)
            cuts = (self._shares(rng).cumsum(0)[:-1] * len(rows)).round().long()
            for client, part in enumerate(rows.tensor_split(cuts.tolist())):
                owned[client].append(part)
        return [torch.cat(parts) for parts in owned]

    def _shares(self, rng: Generator) -> Tensor:
        """-> (clients,), the shares of one class: gamma variables over their sum."""
        concentration = torch.full((self.clients,), self.alpha, dtype=torch.float64)
        gammas = torch._standard_gamma(concentration, generator=rng)  # pyright: ignore[reportPrivateUsage]
        logarithms = gammas.log()
        # Of a small alpha many are less than any float, and all that torch gives is the least one. So close to zero the
        # distribution function is x^alpha but for a factor: its inverse at a uniform number tells how much less.
        least = torch.finfo(gammas.dtype).tiny
        lost = gammas <= least
        uniform = 1 - torch.rand(int(lost.sum()), dtype=gammas.dtype, generator=rng)
        logarithms[lost] += uniform.log() / max(self.alpha, _LEAST_ALPHA)
        return logarithms.softmax(0)


Partition = Annotated[Equal | ByClass | Dirichlet, Field(discriminator="kind")]


def _dealt(labels: Tensor, groups: Tensor, shares: tuple[float, ...], rng: Generator) -> list[Tensor]:
    """Groups in random order, class by class, each to the role that is furthest behind its share."""
    numbers, sizes = torch.unique(groups, return_inverse=True, return_counts=True)[1:]
    first = torch.full((len(sizes),), len(groups)).scatter_reduce(0, numbers, torch.arange(len(groups)), "amin")
    role_of_group = torch.full((len(sizes),), -1, dtype=torch.long)
    wanted = torch.tensor([*shares, max(0.0, 1 - sum(shares))], dtype=torch.float64)
    behind = torch.zeros(len(wanted), dtype=torch.float64)
    for kind in labels.unique():
        members = _shuffled((labels[first] == kind).nonzero().flatten(), rng)
        # Large groups first: small ones then even out what they left.
        members = members[sizes[members].argsort(descending=True, stable=True)]
        # Fractions of a row go on to the next class, or many small classes would leave a small role empty; what large
        # groups did to one class does not, or the next one would have to make up for it.
        behind = behind.clamp(-1, 1)
        for group in members.tolist():
            behind += wanted * sizes[group]
            role = int(behind.argmax())
            behind[role] -= sizes[group]
            role_of_group[group] = role
    role_of_row = role_of_group[numbers]
    return [(role_of_row == role).nonzero().flatten() for role in range(len(shares))]


def _shuffled(rows: Tensor, rng: Generator) -> Tensor:
    return rows[torch.randperm(len(rows), generator=rng)]


def _enough(owned: Sequence[Tensor], minimum: int) -> tuple[Tensor, ...]:
    smallest = min(map(len, owned))
    if smallest < minimum:
        reason = f"leaves a client with {smallest} rows, and a batch needs {minimum}"
        remedy = "use fewer clients, a larger alpha, more images, or a smaller protocol.batch_size"
        raise DataError(reason, at="partition", remedy=remedy)
    return tuple(own.sort().values for own in owned)
