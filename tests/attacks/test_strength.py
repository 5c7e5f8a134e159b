"""What every attack rebuilds of one small victim. A law does not see an attack that became weaker and is still right.

The numbers are what these scenarios gave. A change that moves one of them is meant, and says so, or is a defect.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fedsplit.component import Trust
from fedsplit.reading import parse
from fedsplit.simulate import simulate

TOLERANCE = 0.5
"""dB. Processors differ in a number's last digits, and trainings by what grows out of these."""
VICTIM: Mapping[str, Any] = {
    "name": "strength",
    "threads": 1,
    "dataset": {"kind": "phantoms", "image_size": 16, "limit": 600},
    "roles": {"private": 0.4, "test": 0.1, "auxiliary": 0.35, "public": 0.0, "evaluation": 0.15},
    "partition": {"kind": "equal", "clients": 2},
    "model": {"kind": "linear", "width": 50},
    "cut": "rows",
    "protocol": {"kind": "splitfed_v1", "rounds": 3, "batch_size": 16},
    "optimizer": {"kind": "adam", "learning_rate": 0.003, "state": "reset"},
    "targets": {"count": 32},
    "metrics": [{"kind": "psnr"}],
    "headline": "psnr",
    "engine": {"kind": "inline"},
}
NOISE = {"kind": "gaussian_noise", "std": 0.5}
CODED = {"features": [8, 4], "stride": 1}
SQUEEZED = {"kind": "low_rank_head", "rank": 24}

Rebuilt = Mapping[str, Sequence[float]]
"""dB of each row, by each of the scenario's attacks."""


def rebuilt(folder: Path, **parts: Any) -> Rebuilt:
    outcomes = simulate(parse({**VICTIM, **parts}, Trust()), folder, lambda _: None).outcomes
    assert all(one.valid for one in outcomes), [one.reason for one in outcomes]
    return {
        row: [one.scores["psnr"].mean for one in outcomes if one.defense == row]
        for row in dict.fromkeys(one.defense for one in outcomes)
    }


def assert_as_strong(found: Rebuilt, before: Rebuilt) -> None:
    assert found == {row: pytest.approx(scores, abs=TOLERANCE) for row, scores in before.items()}


def test_from_what_crosses(tmp_path: Path) -> None:
    defenses = {
        "none": {"kind": "none"},
        "noise": NOISE,
        "low rank": {"kind": "low_rank", "rank": 10},
        "reference": {"kind": "conv_reference", **CODED},
        "sparse standard": {"kind": "sparse_standard", "features": 8, "convolution": 4, "stride": 1, "iterations": 12},
        "sca": {"kind": "sca", **CODED, "lambda": 0.25, "iterations": 12},
    }
    attacks = [
        {"kind": "linear_inverse"},
        {"kind": "inverse_network"},
        {"kind": "sparse_inverse", "lessons": 96, "students": 16, "judges": 32},
    ]
    found = rebuilt(tmp_path, defenses=defenses, attacks=attacks)
    assert_as_strong(
        found,
        {
            "none": [39.36, 39.94, 100.0],
            "noise": [17.61, 18.19, 17.61],
            "low rank": [19.65, 19.80, 19.65],
            "reference": [24.91, 25.28, 26.56],
            "sparse standard": [24.04, 24.01, 25.44],
            "sca": [23.47, 23.46, 24.35],
        },
    )


def test_through_the_client(tmp_path: Path) -> None:
    attacks = [{"kind": "likelihood"}, {"kind": "averaging", "attack": {"kind": "linear_inverse"}, "answers": 16}]
    threats = [{"kind": "curious_server", "repeats": True}]
    found = rebuilt(tmp_path, defenses={"none": {"kind": "none"}, "noise": NOISE}, attacks=attacks, threats=threats)
    assert_as_strong(found, {"none": [100.0, 39.36], "noise": [15.93, 22.01]})


def test_from_the_last_hidden_layer(tmp_path: Path) -> None:
    attacks = [
        {"kind": "linear_inverse"},
        {"kind": "tanh_inverse", "attack": {"kind": "linear_inverse"}},
        {"kind": "nearest_neighbour"},
    ]
    defenses = {"none": {"kind": "none"}, "squeezed": SQUEEZED}
    found = rebuilt(tmp_path, defenses=defenses, attacks=attacks, threats=[{"kind": "end_to_end"}])
    assert_as_strong(found, {"none": [20.87, 20.87, 19.55], "squeezed": [20.10, 20.27, 19.26]})
