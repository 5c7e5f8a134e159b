"""A measured ratio with its interval and its goal, and how two sides are timed so that noise falls on both."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

_LEAST_SECONDS = 0.1
"""A turn is repeated until it takes about this long, so that a clock's ticks do not count."""


@dataclass(frozen=True)
class Goal:
    """What a value has to reach."""

    sense: Literal["at least", "at most"]
    bound: float

    def judged(self, value: float) -> str:
        """The goal, and whether the value reaches it."""
        reached = value >= self.bound if self.sense == "at least" else value <= self.bound
        return f"{self.sense} {self.bound:g}: {'reached' if reached else 'MISSED'}"


@dataclass(frozen=True)
class Figure:
    """One line of the table. interval: (least, most)."""

    name: str
    value: float
    interval: tuple[float, float]
    goal: Goal | None = None
    remark: str = ""

    def __str__(self) -> str:
        interval = f"[{self.interval[0]:.3g}, {self.interval[1]:.3g}]"
        verdict = self.goal.judged(self.value) if self.goal else "stated"
        return f"  {self.name:34} {self.value:8.3g} {interval:18} {verdict:22} {self.remark}"


def ratio(above: Sequence[float], below: Sequence[float], factor: float = 1) -> tuple[float, tuple[float, float]]:
    """Best / best, times `factor`; the interval is that of the ratios of turns that followed each other."""
    each = [factor * one / other for one, other in zip(above, below, strict=True)]
    return factor * min(above) / min(below), (min(each), max(each))


def turns(sides: Sequence[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Seconds of one call: `repeats` turns for each side, the sides taking turns, each warmed up before."""
    counts = [enough(side) for side in sides]
    found: list[list[float]] = [[] for _ in sides]
    for _ in range(repeats):
        for side, count, own in zip(sides, counts, found, strict=True):
            own.append(seconds(side, count))
    return found


def enough(call: Callable[[], object]) -> int:
    """How many calls make a turn."""
    call()
    return max(1, round(_LEAST_SECONDS / seconds(call)))


def seconds(call: Callable[[], object], count: int = 1) -> float:
    """Of one call, as the mean over so many."""
    began = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - began) / count
