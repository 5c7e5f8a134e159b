"""A scenario before anybody has looked at what its values mean: the file, the defaults, `--set` and `--smoke`."""

from collections.abc import Mapping, Sequence, Set
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

_SMOKE: dict[str, document.Plain] = {"partition": {"kind": "equal", "clients": 2}}

_SMOKE_UNLESS_EDITED: dict[str, document.Plain] = {"seeds": [0], "engine": {"kind": "inline"}}

_SMOKE_WIDTH = 16

_SMOKE_MOST: dict[str, int] = {
    "answers": 2,
    "candidates": 8,
    "convolution": _SMOKE_WIDTH,
    "critic_steps": 1,
    "draws": 1,
    "epochs": 1,
    "feature_steps": 1,
    "features": _SMOKE_WIDTH,
    "iterations": 4,
    "judges": 8,
    "least_steps": 2,
    "lessons": 24,
    "passes": 1,
    "per_class": 2,
    "pretraining_passes": 1,
    "rows": 24,
    "starts": 4,
    "steps": 2,
    "student_epochs": 1,
    "student_samples": 24,
    "students": 16,
    "trial_epochs": 1,
    "views": 2,
    "warm_up": 2,
    "width": _SMOKE_WIDTH,
    "widths": _SMOKE_WIDTH,
}
"""What attacks, defenses and generators call their work, and the most of it that a smoke test does. Settings that must
not fall in some order keep it."""

_SMOKE_INSIDE: dict[str, dict[str, document.Plain]] = {
    "protocol": {"rounds": 1, "batch_size": 16},
    "targets": {"count": 20},
}


def drafted(path: Path, assignments: Sequence[str], *, smoke: bool) -> dict[str, document.Plain]:
    """Reads and edits. ScenarioError where the file or an assignment cannot be read."""
    raw = filled_in(document.read(path))
    for assignment in assignments:
        document.assign(raw, assignment)
    edited = {assignment.partition("=")[0].strip().partition(".")[0] for assignment in assignments}
    return _smoked(raw, edited) if smoke else raw


def engine_edit(path: Path, kind: str) -> str:
    """The assignment that names this engine, and keeps what the file sets of it but nothing that it sets of another."""
    engine = filled_in(document.read(path))["engine"]
    kept = engine if isinstance(engine, dict) and engine.get("kind") == kind else {}
    return f"engine={document.dump({**kept, 'kind': kind})}"


def filled_in(raw: Mapping[str, document.Plain]) -> dict[str, document.Plain]:
    """With every default, as plain values: so `--set` can change one key of what the file leaves out."""
    return {**deepcopy(_DEFAULTS), **raw}


def _smoked(raw: Mapping[str, document.Plain], edited: Set[str]) -> dict[str, document.Plain]:
    """The same scenario on a few synthetic images, one round, one seed, inline: minutes become seconds.

    edited: keys that the user has set beside; seeds and engine are then the user's.
    """
    unedited = {key: value for key, value in _SMOKE_UNLESS_EDITED.items() if key not in edited}
    smoked = {**raw, **deepcopy(_SMOKE | unedited)}
    attacks, threats, public = raw.get("attacks"), raw.get("threats"), raw.get("public")
    smoked |= {"dataset": _drawn(raw["dataset"])} if "dataset" in raw else {}
    if isinstance(public, dict):
        smoked["public"] = _elsewhere(public, seed=1)
    if isinstance(threats, list):
        smoked["threats"] = [_with_own(threat) for threat in threats]
    for key, edits in _SMOKE_INSIDE.items():
        whole = raw.get(key, {})
        smoked[key] = {**whole, **edits} if isinstance(whole, dict) else whole
    if isinstance(attacks, list):
        smoked["attacks"] = [_without_rounds(attack) for attack in attacks]
    return smoked


def _drawn(dataset: document.Plain, seed: int = 0) -> document.Plain:
    """Phantoms of the same size instead of what lies in files."""
    if not isinstance(dataset, dict) or dataset.get("kind") == "digits":
        return dataset
    return {"kind": "phantoms", "count": 360, "image_size": dataset.get("image_size") or 28, "seed": seed}


def _elsewhere(images: Mapping[str, document.Plain], seed: int) -> document.Plain:
    """What names another data set names other phantoms."""
    other = images.get("dataset")
    return {**images, "dataset": _drawn(other, seed)} if other is not None else dict(images)


def _with_own(threat: document.Plain) -> document.Plain:
    if not isinstance(threat, dict) or not isinstance(own := threat.get("auxiliary"), dict):
        return threat
    return {**threat, "auxiliary": _elsewhere(own, seed=2)}


def eased(raw: Mapping[str, document.Plain]) -> dict[str, document.Plain]:
    """A scenario with nothing left to default, with less work in attacks and defenses, and layers that are no wider
    than what a few images can teach."""
    lighter = {key: _at_most(raw[key], _SMOKE_MOST) for key in ("attacks", "defenses")}
    return {**raw, **lighter, "model": _slim(raw["model"])}


def _at_most(value: document.Plain, most: Mapping[str, int]) -> document.Plain:
    """Whatever bears one of these names, at any depth."""
    if isinstance(value, list):
        return [_at_most(part, most) for part in value]
    if not isinstance(value, dict):
        return value
    return {key: _capped(part, most[key]) if key in most else _at_most(part, most) for key, part in value.items()}


def _capped(value: document.Plain, most: int) -> document.Plain:
    if isinstance(value, list):
        return [_capped(part, most) for part in value]
    return min(value, most) if isinstance(value, int) and not isinstance(value, bool) else value


def _slim(model: document.Plain) -> document.Plain:
    """The same kind of model, its numbers no larger than a width."""
    if isinstance(model, dict):
        return {key: _slim(value) for key, value in model.items()}
    return _capped(model, _SMOKE_WIDTH)


def _without_rounds(attack: document.Plain) -> document.Plain:
    if not isinstance(attack, dict):
        return attack
    return {key: value for key, value in attack.items() if key != "rounds"}
