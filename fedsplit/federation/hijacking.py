"""A server in the hands of an attack, as a plan tells of it to whatever process the server lives in."""

import importlib
from typing import cast

from torch import Tensor

from fedsplit.component import Settings
from fedsplit.records.impostor import Impostor


class Hijacking(Settings):
    """Who answers in the server's place: a function by its name, and all it needs as text."""

    name: str
    """Of the attack."""
    function: str
    """`package.module:function` of the text and of an impostor's memory, which returns the Impostor."""
    settings: str
    """The text."""

    def impostor(self, memory: dict[str, Tensor]) -> Impostor:
        """As it goes on from this memory."""
        module, _, function = self.function.partition(":")
        return cast(Impostor, getattr(importlib.import_module(module), function)(self.settings, memory))
