from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fedsplit.defenses.base import Defense
from fedsplit.defenses.dp_sgd import DpSgd
from fedsplit.defenses.gaussian_noise import GaussianNoise
from fedsplit.engines.base import Engine
from fedsplit.engines.flower import Flower
from fedsplit.engines.inline import Inline
from fedsplit.engines.ray import Ray
from fedsplit.progress import observed_by
from fedsplit.protocols.base import Protocol
from fedsplit.protocols.parallel import Parallel
from fedsplit.protocols.sequential import Sequential
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.protocols.splitfed_v2 import SplitFedV2
from tests.engines.federations import NoisyCopies, federation, train

ENGINES = [
    Inline(),
    pytest.param(Flower(workers=1), marks=pytest.mark.engine),
    pytest.param(Flower(workers=2), marks=pytest.mark.engine),
    pytest.param(Ray(workers=1), marks=pytest.mark.engine),
    pytest.param(Ray(workers=2), marks=pytest.mark.engine),
    pytest.param(Ray(workers=4), marks=pytest.mark.engine),
]
NAMES = ["inline", "flower 1", "flower 2", "ray 1", "ray 2", "ray 4"]
DISTINCT = {"argvalues": [ENGINES[0], ENGINES[1], ENGINES[4]], "ids": ["inline", "flower", "ray"]}
STEPWISE: list[Protocol] = [
    Sequential(rounds=2, batch_size=8, drop_out=0.2),
    SplitFedV2(rounds=2, batch_size=8, local_epochs=2, participation=0.7, stragglers=0.3),
    Parallel(rounds=2, batch_size=8),
    Parallel(rounds=2, batch_size=8, sync="round"),
    Parallel(rounds=2, batch_size=8, sync="never", participation=0.7),
]


def bits(value: object) -> object:
    """A value in which equality means equality of every bit."""
    if isinstance(value, Tensor):
        return (str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes())
    if is_dataclass(value):
        return {field.name: bits(getattr(value, field.name)) for field in fields(value) if field.compare}
    if isinstance(value, dict):
        return {key: bits(part) for key, part in value.items()}
    if isinstance(value, tuple):
        return tuple(bits(part) for part in value)
    return value


@pytest.mark.parametrize(
    "defense", [GaussianNoise(std=0.3), NoisyCopies(), DpSgd()], ids=lambda defense: type(defense).__name__
)
@pytest.mark.parametrize("engine", ENGINES, ids=NAMES)
def test_every_engine_gives_the_same_weights_ledger_and_utility_bit_by_bit(
    engine: Engine, defense: Defense, tmp_path: Path
) -> None:
    expected = train(Inline(), tmp_path / "expected", federation(), defense)
    found = train(engine, tmp_path / "found", federation(), defense)
    assert bits(found.standing) == bits(expected.standing)
    assert bits(found.ledger) == bits(expected.ledger)
    assert found.evaluation == expected.evaluation
    assert len(found.ledger.pages) == 2
    assert found.ledger.pages[0].exchanges
    assert not torch.equal(found.standing.client["rows.0.weight"], found.ledger.pages[0].broadcast["rows.0.weight"])


@pytest.mark.parametrize("engine", **DISTINCT)
def test_an_interrupted_training_ends_with_the_same_bits(engine: Engine, tmp_path: Path) -> None:
    def protocol(rounds: int) -> SplitFedV1:
        return SplitFedV1(rounds=rounds, batch_size=8)

    expected = train(Inline(), tmp_path / "expected", federation(), protocol=protocol(3))
    train(engine, tmp_path / "found", federation(), protocol=protocol(1))
    found = train(engine, tmp_path / "found", federation(), protocol=protocol(3))
    assert bits(found.standing) == bits(expected.standing)
    assert bits(found.ledger) == bits(expected.ledger)
    assert found.evaluation == expected.evaluation


@pytest.mark.engine
@pytest.mark.parametrize(
    ("protocol", "engine", "head"),
    [
        *((protocol, Ray(workers=2), head) for protocol in STEPWISE for head in (None, "logits")),
        *((protocol, Ray(workers=workers), "logits") for workers in (1, 4) for protocol in STEPWISE[1:3]),
    ],
)
def test_steps_across_processes_give_the_same_bits_as_in_one(
    protocol: Protocol, engine: Engine, head: str | None, tmp_path: Path
) -> None:
    expected = train(Inline(), tmp_path / "expected", federation(), protocol=protocol, head=head)
    found = train(engine, tmp_path / "found", federation(), protocol=protocol, head=head)
    assert bits(found.standing) == bits(expected.standing)
    assert bits(found.ledger) == bits(expected.ledger)
    assert found.evaluation == expected.evaluation


@pytest.mark.parametrize("head", [None, "logits"], ids=["two parts", "U-shaped"])
@pytest.mark.parametrize("engine", **DISTINCT)
def test_mixed_precision_gives_the_same_bits_in_several_processes(
    engine: Engine, head: str | None, tmp_path: Path
) -> None:
    found = train(engine, tmp_path / "found", federation(), head=head, precision="bfloat16")
    expected = train(Inline(), tmp_path / "expected", federation(), head=head, precision="bfloat16")
    assert bits(found.standing) == bits(expected.standing)
    assert bits(found.ledger) == bits(expected.ledger)
    assert found.evaluation == expected.evaluation
    single = train(Inline(), tmp_path / "single", federation(), head=head)
    assert bits(found.standing) != bits(single.standing)


class Watcher:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def started(self, description: str, total: int) -> object:
        self.seen.append(f"{description} {total}")
        return len(self.seen)

    def advanced(self, loop: object) -> None:
        self.seen.append(f"{loop} advanced")

    def finished(self, loop: object) -> None:
        self.seen.append(f"{loop} finished")


@pytest.mark.parametrize("engine", **DISTINCT)
def test_every_engine_shows_its_rounds(engine: Engine, tmp_path: Path) -> None:
    watcher = Watcher()
    with observed_by(watcher):
        train(engine, tmp_path, federation())
    assert watcher.seen == ["training 3", *["1 advanced"] * 3, "1 finished"]
