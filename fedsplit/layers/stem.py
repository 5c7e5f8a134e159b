"""Stages that stand between the images and a model's own blocks: a layer, batch normalisation, dropout, and again."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from fedsplit.errors import ScenarioError
from fedsplit.records.images import Shape


@dataclass(frozen=True)
class Stage:
    """name: of the block that holds the layer; the block after it is `normalised(name)`. features: channels it gives.

    layer: the number of channels it gets -> a fresh layer, odd kernel, padded by half of it. affine: whether batch
    normalisation has a weight and a bias; it needs a gradient for them.
    """

    name: str
    features: int
    layer: Callable[[int], nn.Module]
    affine: bool = True


@dataclass(frozen=True)
class Stem:
    """stride: of the layer of every stage. dropout: the share of values that is dropped behind every stage. replaces:
    the model's own blocks up to this one give way to the stages; empty for none."""

    stages: tuple[Stage, ...]
    stride: int = 1
    dropout: float = 0.0
    replaces: str = ""

    def before(
        self, model: Callable[[Shape], "OrderedDict[str, nn.Module]"], shape: Shape
    ) -> "OrderedDict[str, nn.Module]":
        """Fresh blocks of the stages, then those that `model` gives for the shape that the stages give; or, where some
        of them give way, the others of those that it gives for the images' shape.

        Raises ScenarioError where both have a block of one name, or `replaces` names none.
        """
        channels, height, width = shape
        for _ in self.stages:
            height, width = -(-height // self.stride), -(-width // self.stride)
        # The model's weights are drawn first: behind any two stems of the same shapes it begins alike.
        behind = self._rest(model(shape)) if self.replaces else model((self.stages[-1].features, height, width))
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for stage in self.stages:
            blocks[stage.name] = stage.layer(channels)
            blocks[normalised(stage.name)] = self._normalisation(stage)
            channels = stage.features
        if twice := [name for name in blocks if name in behind]:
            remedy = "put one set of stages before a model, and give its own blocks other names"
            raise ScenarioError("is the name of two blocks", at="defenses", value=twice[0], remedy=remedy)
        return OrderedDict([*blocks.items(), *behind.items()])

    def _rest(self, blocks: "OrderedDict[str, nn.Module]") -> "OrderedDict[str, nn.Module]":
        names = list(blocks)
        if self.replaces not in names[:-1]:
            remedy = f"use one of {', '.join(names[:-1])}"
            raise ScenarioError("no block of this name to replace", at="defenses", value=self.replaces, remedy=remedy)
        return OrderedDict((name, blocks[name]) for name in names[names.index(self.replaces) + 1 :])

    def _normalisation(self, stage: Stage) -> nn.Module:
        norm = nn.BatchNorm2d(stage.features, affine=stage.affine)
        return nn.Sequential(norm, nn.Dropout(self.dropout)) if self.dropout else norm


def normalised(name: str) -> str:
    """The block behind the stage's layer."""
    return f"{name}_norm"
