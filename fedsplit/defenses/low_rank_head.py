"""A classifier's head of two factors with a saturating step between them (LoFt: Yu et al., KDD 2026, and its earlier
version CALoR)."""

from collections import OrderedDict

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from fedsplit.defenses.base import Defense
from fedsplit.errors import ScenarioError
from fedsplit.layers.bottleneck import Activation, low_rank_factor
from fedsplit.models.base import AnyModel, Model
from fedsplit.numerics.confidence import tempered_loss
from fedsplit.records.images import Shape
from fedsplit.records.step import ServerStep


class LowRankHead(Defense):
    """Answers are made of `rank` squeezed numbers: the last linear layer becomes normalisation, a linear map to these,
    the activation, and a linear map to classes, both with biases.

    Meant against those who look at the deployed model: its last hidden layer has `rank` numbers within the
    activation's range. It does nothing for images behind a cut. The step squeezes and destroys nothing that a known
    inverse could not restore but digits: see the attack `tanh_inverse`. The first block keeps the name of the layer it
    replaces, so that a `head` which begins there stays at the client as a whole.
    """

    rank: PositiveInt
    """Numbers between the two maps. Published: 50 for 530 classes, 20 to 500 in sweeps."""
    activation: Activation = "tanh"
    """What they pass."""
    adapted_rounds: NonNegativeInt = 0
    """The last rounds, in which the loss is `scale` p^`power` log p in place of the cross-entropy, with p the
    confidence in the true class: it is pulled to exp(-1 / `power`). Published: 5 epochs after 100, at a lower rate."""
    scale: PositiveFloat = 0.25
    """Of that loss."""
    power: PositiveFloat = 8.0
    """In that loss; 8 pulls to 0.88."""

    @property
    def needs_server_labels(self) -> bool:
        """Where it says what the loss is."""
        return self.adapted_rounds > 0

    def build(self, model: Model, cut: str) -> tuple[Model, str]:
        """The model with two blocks in place of its last one."""
        return _Factored(inner=model, rank=self.rank, activation=self.activation), cut

    def server_penalty(self, step: ServerStep) -> Tensor:
        """In the last rounds, what makes the other loss of the cross-entropy."""
        if step.progress.left >= self.adapted_rounds:
            return Defense.server_penalty(self, step)
        assert step.logits is not None and step.labels is not None, "a scenario that keeps labels back is refused"
        wanted = self.scale * tempered_loss(step.logits, step.labels, self.power)
        return step.mean(wanted - F.cross_entropy(step.logits, step.labels, reduction="none"))


class _Factored(Model):
    inner: AnyModel
    rank: PositiveInt
    activation: Activation

    def blocks(self, shape: Shape, classes: int) -> "OrderedDict[str, nn.Module]":
        blocks = self.inner.blocks(shape, classes)
        name, last = list(blocks.items())[-1]
        if type(last) is not nn.Linear:
            reason = f"replaces a last block that is one linear layer, and {name} is a {type(last).__name__}"
            remedy = "leave this row out, or make that layer a block of its own"
            raise ScenarioError(reason, at="low_rank_head", value=self.inner.kind, remedy=remedy)
        factor = low_rank_factor((last.in_features,), self.rank, self.activation)
        blocks[name] = nn.Sequential(OrderedDict(norm=nn.BatchNorm1d(last.in_features), low_rank=factor))
        blocks[f"{name}_expansion"] = nn.Linear(self.rank, last.out_features)
        return blocks
