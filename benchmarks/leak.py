"""How much leaks without a defense, on real images: the floor that every attack and every defense is measured from.

`python benchmarks/leak.py` needs the images (FEDSPLIT_DATA) and an hour; `--only medical` runs the cases whose name
begins so, those of Plug-&-Play want two cores that do nothing else. Prints a table of accuracies and scores, then one
JSON object on the last line.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from sparse import load, printed
from sparse_coding.figure import Figure, Goal

from fedsplit.component import Trust
from fedsplit.document import Plain
from fedsplit.reading import parse
from fedsplit.records.outcome import Outcome
from fedsplit.simulate import simulate

MEDICAL: dict[str, Plain] = {
    "partition": {"kind": "dirichlet", "clients": 10, "alpha": 0.5},
    "model": {"kind": "linear", "width": 100},
    "cut": "rows",
    "protocol": {"kind": "splitfed_v1", "rounds": 20, "batch_size": 64},
}
# Of 12,000 images an attacker learns from 4,000 and stops by 700.
AUXILIARY_4000: dict[str, Plain] = {
    "private": 0.45,
    "test": 0.15,
    "auxiliary": 0.392,
    "public": 0.0,
    "evaluation": 0.008,
}
# Rows are drawn at random, neighbouring slices parted: the setting in which the first rough figures were taken.
AT_RANDOM: dict[str, Plain] = {"kind": "medical_mnist", "limit": 12000, "near_duplicates": None}


# The model itself, and a generator that learns from other images than the clients': unlabelled ones of the same data
# set, which is the ideal case, or clothes.
BEHIND: dict[str, Plain] = {
    "threads": 2,
    "engine": {"kind": "inline"},
    "dataset": {"kind": "mnist", "limit": 30000},
    "roles": {"private": 0.4, "test": 0.1, "auxiliary": 0.35, "public": 0.0, "evaluation": 0.15},
    "partition": {"kind": "equal", "clients": 4},
    "model": {"kind": "lenet"},
    "cut": "pool1",
    "protocol": {"kind": "splitfed_v1", "rounds": 4, "batch_size": 64},
    "attacks": [{"kind": "plug_and_play"}],
    "metrics": [{"kind": kind} for kind in ("attack_accuracy", "feature_distance", "coverage", "kid")],
}
CLOTHES: dict[str, Plain] = {"dataset": {"kind": "fashion_mnist", "limit": 12000}}
PLUG_AND_PLAY = "plug_and_play by style_gan"


@dataclass(frozen=True)
class Case:
    """One scenario without defense. goals: what some of the scores or seconds must be."""

    name: str
    scenario: dict[str, Plain]
    goals: dict[str, Goal]


CASES = (
    *(
        # The closed-form inverse gets some decibels less the longer the client was trained: both ends are shown.
        Case(
            f"medical 28, {rounds} rounds",
            {
                **MEDICAL,
                "protocol": {"kind": "splitfed_v1", "rounds": rounds, "batch_size": 64},
                "dataset": {**AT_RANDOM, "image_size": 28},
                "roles": AUXILIARY_4000,
                "attacks": [{"kind": "linear_inverse"}, {"kind": "inverse_network"}, {"kind": "nearest_neighbour"}],
            },
            goals | {"linear_inverse psnr": Goal("at least", 40.0), "inverse_network psnr": Goal("at least", 32.0)},
        )
        for rounds, goals in ((5, {}), (20, {"accuracy": Goal("at least", 0.98)}))
    ),
    Case(
        "medical 64, 20 rounds",
        {
            **MEDICAL,
            "dataset": {**AT_RANDOM, "image_size": 64},
            "roles": AUXILIARY_4000,
            "attacks": [{"kind": "nearest_neighbour"}],
        },
        {"accuracy": Goal("at least", 0.98)},
    ),
    *(
        Case(
            f"lenet conv1 {kind}",
            {
                "dataset": {"kind": kind, "limit": 12000},
                "roles": AUXILIARY_4000,
                "partition": {"kind": "dirichlet", "clients": 10, "alpha": 0.5},
                "model": {"kind": "lenet"},
                "cut": "conv1",
                "protocol": {"kind": "splitfed_v1", "rounds": 20, "batch_size": 64},
                "attacks": [{"kind": "linear_inverse"}, {"kind": "inverse_network"}],
            },
            {"best psnr": Goal("at least", 30.0)},
        )
        for kind in ("mnist", "cifar10")
    ),
    Case(
        "plug and play, digits",
        {**BEHIND, "threats": [{"kind": "plug_and_play"}]},
        {
            f"{PLUG_AND_PLAY} attack_accuracy_top1": Goal("at least", 0.9),
            f"{PLUG_AND_PLAY} seconds": Goal("at most", 900),
        },
    ),
    Case("plug and play, clothes", {**BEHIND, "threats": [{"kind": "plug_and_play", "auxiliary": CLOTHES}]}, {}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="run the cases whose name begins with this")
    wanted = parser.parse_args().only
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, torch {torch.__version__}, {load()}", flush=True)
    cases = [case for case in CASES if case.name.startswith(wanted)]
    figures = {figure.name: printed(figure) for case in cases for figure in measured(case)}
    print(f"{time.strftime('%H:%M')}, {load()}")
    print(json.dumps(figures))


def measured(case: Case) -> Iterator[Figure]:
    """Runs a case: its scores, with the interval of their mean where there is one, and the trivial guesses'."""
    scenario = parse(
        {"name": "benchmark", "targets": {"from": "private", "count": 400}, **case.scenario}, Trust(plugins=False)
    )
    with tempfile.TemporaryDirectory() as folder:
        # What an attack takes holds the training of its generator.
        os.environ["FEDSPLIT_CACHE"] = folder
        outcomes = simulate(scenario, Path(folder) / "run", lambda _: None).outcomes
    for name, value, interval in scored(outcomes):
        yield Figure(f"{case.name}: {name}", value, interval or (value, value), case.goals.get(name))


def scored(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, float, tuple[float, float] | None]]:
    """Name, mean and interval."""
    yield "accuracy", outcomes[0].utility.accuracy, None
    for outcome in outcomes:
        for name, score in outcome.scores.items():
            interval = None if score.low is None or score.high is None else (score.low, score.high)
            if score.mean is not None:
                yield f"{outcome.attack} {name}", score.mean, interval
        yield f"{outcome.attack} seconds", outcome.seconds, None
        yield f"{outcome.attack} valid", float(outcome.valid), None
    if "psnr" in outcomes[0].scores:
        yield "best psnr", max(outcome.scores["psnr"].mean or 0.0 for outcome in outcomes), None
    for anchor, scores in outcomes[0].anchors.items():
        yield from ((f"{anchor} {name}", value, None) for name, value in scores.items() if value is not None)


if __name__ == "__main__":
    main()
