"""A scenario of a second or less, as plain values, and changes to it."""

from copy import deepcopy
from typing import Any

from fedsplit import document
from fedsplit.component import Trust
from fedsplit.reading import parse
from fedsplit.scenario import Scenario

DIGITS: dict[str, Any] = {
    "name": "tiny",
    "dataset": {"kind": "digits", "limit": 300},
    "roles": {"private": 0.4, "test": 0.15, "auxiliary": 0.35, "public": 0.0, "evaluation": 0.1},
    "partition": {"kind": "equal", "clients": 2},
    "model": {"kind": "linear", "width": 8},
    "cut": "rows",
    "protocol": {"kind": "splitfed_v1", "rounds": 3, "batch_size": 16},
    "defenses": {"noise": {"kind": "gaussian_noise", "std": 0.5}},
    "attacks": [{"kind": "linear_inverse"}],
    "targets": {"count": 16},
    "metrics": [{"kind": "psnr"}],
    "headline": "psnr",
    # Unit tests start no other processes.
    "engine": {"kind": "inline"},
}


def raw(*assignments: str) -> dict[str, Any]:
    """The tiny scenario after some `--set`."""
    changed = deepcopy(DIGITS)
    for assignment in assignments:
        document.assign(changed, assignment)
    return changed


def scenario(*assignments: str) -> Scenario:
    """The same, parsed."""
    return parse(raw(*assignments), Trust())
