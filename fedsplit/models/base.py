"""The contract of a model: an ordered dict of named blocks that can be cut between any two."""

from abc import abstractmethod
from collections import OrderedDict
from typing import Annotated

from torch import nn

from fedsplit.component import Component, Family
from fedsplit.records.images import Shape


class Model(Component):
    """A classifier that can be cut after any block but the last."""

    @abstractmethod
    def blocks(self, shape: Shape, classes: int) -> "OrderedDict[str, nn.Module]":
        """Fresh blocks, (n, *shape) -> (n, classes) logits when applied one after the other.

        Names are Python identifiers. Initial weights come from torch's global generator, which the caller forks. What
        is trained is a deep copy: a hook on a module is copied, a hook on a tensor is not.
        """


MODELS: Family[Model] = Family("models", Model)
AnyModel = Annotated[Model, MODELS]
