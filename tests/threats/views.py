"""Which fields of a leak an adversary holds."""

from fedsplit.records.leak import Asset, Leak
from fedsplit.threats.base import Threat
from tests.records.test_leak import full_leak


def held(threat: Threat) -> set[str]:
    view = threat.view(full_leak())
    return {asset.value for asset in Asset if getattr(view, asset.value) is not None}


def unchanged(view: Leak) -> bool:
    return (view.kind, view.round, view.image_shape, view.classes) == ("training", 3, (1, 2, 2), 5)
