"""Whether an independent judge sees the class that was asked for (as Zhang, Jia, Pei, Wang, Li and Song, "The secret
revealer", CVPR 2020, measure it)."""

from typing import ClassVar, Literal

from torch import Tensor

from fedsplit.layers.evaluator import Evaluator
from fedsplit.metrics.base import Measurement, Metric
from fedsplit.records.leak import Level
from fedsplit.records.truth import Truth


class AttackAccuracy(Metric):
    """The share of guesses whose class is among the first few that the evaluator names. The evaluator has another
    architecture than the victim and other rows to learn from; its own accuracy is the most that can be expected."""

    levels: ClassVar[frozenset[Level]] = frozenset({"class"})
    more_leaks: ClassVar[Literal["higher", "lower"]] = "higher"

    top: Literal[1, 5] = 1
    """How many it may name."""

    @property
    def unit(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Which share."""
        return f"top-{self.top}"

    @property
    def name(self) -> str:
        """Says how many the evaluator may name."""
        return f"{self.kind}_top{self.top}"

    @property
    def evaluated(self) -> bool:
        """Always."""
        return True

    def measure(self, truth: Truth, guess: Tensor, evaluator: Evaluator | None) -> Measurement:
        """values: (targets,), 1 or 0."""
        assert evaluator is not None, "asked for by `evaluated`"
        logits = evaluator.logits(guess)
        named = logits.topk(min(self.top, logits.shape[1]), dim=1).indices
        return Measurement((named == truth.labels.cpu()[:, None]).any(dim=1).double())
