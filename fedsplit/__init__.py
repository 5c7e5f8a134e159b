"""How much private data can the other side rebuild from split or federated learning, and what does stopping it cost?

The public names are loaded when they are first used, so that `import fedsplit` and `fedsplit --help` cost nothing.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedsplit.attacks.base import Attack
    from fedsplit.datasets.base import Dataset
    from fedsplit.defenses.base import Defense
    from fedsplit.errors import FedsplitError
    from fedsplit.metrics.base import Metric
    from fedsplit.models.base import Model
    from fedsplit.reading import load
    from fedsplit.scenario import Scenario
    from fedsplit.threats.base import Threat

__all__ = ["Attack", "Dataset", "Defense", "FedsplitError", "Metric", "Model", "Scenario", "Threat", "load"]

_HOMES = {
    "Attack": "attacks.base",
    "Dataset": "datasets.base",
    "Defense": "defenses.base",
    "FedsplitError": "errors",
    "Metric": "metrics.base",
    "Model": "models.base",
    "Scenario": "scenario",
    "Threat": "threats.base",
    "load": "reading",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'fedsplit' has no attribute {name!r}")
    return getattr(importlib.import_module(f"fedsplit.{_HOMES[name]}"), name)
