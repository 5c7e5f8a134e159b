"""A low-rank bottleneck at the cut (after LoFt: Yu et al., KDD 2026, there used on a classifier's head)."""

from collections import OrderedDict

from pydantic import PositiveInt
from torch import nn

from fedsplit.defenses.base import Defense
from fedsplit.layers.bottleneck import Activation, Expansion, low_rank_factor
from fedsplit.models.base import AnyModel, Model
from fedsplit.records.images import Shape
from fedsplit.split import split


class LowRank(Defense):
    """Only `rank` numbers per image cross the cut.

    The first factor and its activation become the client's last block, the second factor the server's first. A linear
    attacker cannot do better than the first `rank` principal components; a non-linear code of few numbers can carry
    more, so a low rank alone certifies nothing.
    """

    rank: PositiveInt
    """Numbers per image that cross the cut."""
    activation: Activation = "tanh"
    """What each of them passes. Whoever knows that it is tanh or sigmoid undoes it (attack `tanh_inverse`)."""

    def build(self, model: Model, cut: str) -> tuple[Model, str]:
        """The model with the two factors after the cut; the cut moves behind the first one."""
        return _Bottlenecked(inner=model, cut=cut, rank=self.rank, activation=self.activation), _factor(cut)


class _Bottlenecked(Model):
    inner: AnyModel
    cut: str
    rank: PositiveInt
    activation: Activation

    def blocks(self, shape: Shape, classes: int) -> "OrderedDict[str, nn.Module]":
        blocks = self.inner.blocks(shape, classes)
        cut_shape = split(blocks, self.cut, shape).cut_shape
        widened: OrderedDict[str, nn.Module] = OrderedDict()
        for name, block in blocks.items():
            widened[name] = block
            if name == self.cut:
                widened[_factor(name)] = low_rank_factor(cut_shape, self.rank, self.activation)
                widened[f"{name}_expansion"] = Expansion(self.rank, cut_shape)
        return widened


def _factor(cut: str) -> str:
    return f"{cut}_factor"
