"""The contract of a metric: the truth and a guess in, a number with its evidence out."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from torch import Tensor

from fedsplit.component import Component, Family
from fedsplit.layers.evaluator import Evaluator
from fedsplit.numerics.bootstrap import mean
from fedsplit.records.leak import Level
from fedsplit.records.truth import Truth


@dataclass(frozen=True)
class Measurement:
    """values: (targets, ...), one row of evidence per target, on the CPU. statistic: any rows of it -> the score,
    so that an interval comes from resampled rows; fewer resamples where the statistic is dear.
    """

    values: Tensor
    statistic: Callable[[Tensor], float] = mean
    resamples: int = 2000


class Metric(Component):
    """Scores a reconstruction. Images come clamped to [0, 1]."""

    levels: ClassVar[frozenset[Level]] = frozenset({"instance"})
    """What it scores: guesses at images, guesses at classes, or either."""
    unit: ClassVar[str]
    more_leaks: ClassVar[Literal["higher", "lower"]]
    """Which direction means that more is leaked."""
    per_target: ClassVar[bool] = True
    """Whether values are one score per target. A set-level metric has none: guesses in another order score the same,
    so that no permuted control can check it."""

    @property
    def name(self) -> str:
        """The name in tables; a metric with several readings says which."""
        return self.kind

    @property
    def evaluated(self) -> bool:
        """Whether it needs an evaluator, trained on the evaluation rows."""
        return False

    @abstractmethod
    def measure(self, truth: Truth, guess: Tensor, evaluator: Evaluator | None) -> Measurement:
        """guess: (targets, channels, height, width) in [0, 1], row by row the guess at `truth.images`."""


METRICS: Family[Metric] = Family("metrics", Metric)
AnyMetric = Annotated[Metric, METRICS]
