"""A scenario before anybody has looked at what its values mean: the file, the defaults, `--set` and `--smoke`."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path

from fedsplit import document

_DEFAULTS: dict[str, document.Plain] = {
    "partition": {"kind": "dirichlet", "clients": 10, "alpha": 0.5},
    "protocol": {"kind": "splitfed_v1"},
    "optimizer": {"kind": "adam"},
    "defenses": {},
    "threats": [{"kind": "curious_server"}],
    "attacks": [{"kind": "linear_inverse"}, {"kind": "inverse_network"}],
    "metrics": [{"kind": "psnr"}, {"kind": "ssim"}],
    "engine": {"kind": "ray"},
}

_SMOKE: dict[str, document.Plain] = {
    "seeds": [0],
    "partition": {"kind": "equal", "clients": 2},
    "engine": {"kind": "inline"},
}

_SMOKE_WIDTH = 32

_SMOKE_INSIDE: dict[str, dict[str, document.Plain]] = {
    "protocol": {"rounds": 1, "batch_size": 16},
    "targets": {"count": 20},
}


def drafted(path: Path, assignments: Sequence[str], *, smoke: bool) -> dict[str, document.Plain]:
    """Reads and edits. ScenarioError where the file or an assignment cannot be read."""
    raw = filled_in(document.read(path))
    for assignment in assignments:
        document.assign(raw, assignment)
    return _smoked(raw) if smoke else raw


def filled_in(raw: Mapping[str, document.Plain]) -> dict[str, document.Plain]:
    """With every default, as plain values: so `--set` can change one key of what the file leaves out."""
    return {**deepcopy(_DEFAULTS), **raw}


def _smoked(raw: Mapping[str, document.Plain]) -> dict[str, document.Plain]:
    """The same scenario on a few synthetic images, one round, one seed, inline: minutes become seconds."""
    smoked = {**raw, **deepcopy(_SMOKE)}
    dataset, attacks = raw.get("dataset"), raw.get("attacks")
    if isinstance(dataset, dict) and dataset.get("kind") != "digits":
        smoked["dataset"] = {"kind": "phantoms", "count": 360, "image_size": dataset.get("image_size") or 28}
    smoked |= {"model": _slim(raw["model"])} if "model" in raw else {}
    for key, edits in _SMOKE_INSIDE.items():
        whole = raw.get(key, {})
        smoked[key] = {**whole, **edits} if isinstance(whole, dict) else whole
    if isinstance(attacks, list):
        smoked["attacks"] = [_without_rounds(attack) for attack in attacks]
    return smoked


def _slim(model: document.Plain) -> document.Plain:
    """The same kind of model with layers that are no wider than what a few images can teach."""
    if isinstance(model, dict):
        return {key: _slim(value) for key, value in model.items()}
    if isinstance(model, list):
        return [_slim(value) for value in model]
    return min(model, _SMOKE_WIDTH) if isinstance(model, int) and not isinstance(model, bool) else model


def _without_rounds(attack: document.Plain) -> document.Plain:
    if not isinstance(attack, dict):
        return attack
    return {key: value for key, value in attack.items() if key != "rounds"}
