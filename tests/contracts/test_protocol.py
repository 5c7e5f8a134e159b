"""What every protocol promises, run by the reference engine; a plug-in passes it by being added to SETTINGS."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import TypeAdapter, ValidationError

from fedsplit.defenses.gaussian_noise import GaussianNoise
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.ledger import Recording
from fedsplit.federation.optimizer import Adam
from fedsplit.federation.plan import Plan
from fedsplit.federation.trained import Standing, Trained
from fedsplit.models.lenet import LeNet
from fedsplit.models.linear import Linear
from fedsplit.protocols.base import PROTOCOLS, AnyProtocol, Protocol
from tests.federation.builders import SHAPE, bits, federation, plan_of, train

SETTINGS: list[dict[str, Any]] = [{"kind": kind} for kind in PROTOCOLS.shipped] + [
    {"kind": "splitfed_v1", "local_epochs": 2},
    {"kind": "splitfed_v1", "participation": 0.5},
    {"kind": "splitfed_v1", "statistics": "pooled"},
    {"kind": "splitfed_v1", "drop_out": 0.3, "stragglers": 0.5},
    {"kind": "splitfed_v2", "local_epochs": 2, "participation": 0.5},
    {"kind": "splitfed_v2", "drop_out": 0.3, "stragglers": 0.5},
    {"kind": "parallel", "sync": "round", "statistics": "pooled"},
    {"kind": "parallel", "drop_out": 0.3, "stragglers": 0.5},
    {"kind": "sequential", "relay": "server"},
    {"kind": "sequential", "drop_out": 0.3, "stragglers": 0.5},
]
RECORDING = Recording(training=(1, 2), inference=(3,))

protocols: TypeAdapter[Protocol] = TypeAdapter(AnyProtocol)


@pytest.fixture(params=SETTINGS, ids=lambda settings: "-".join(map(str, settings.values())))
def protocol(request: pytest.FixtureRequest) -> Protocol:
    return protocols.validate_python({"rounds": 3, "batch_size": 5, **request.param})


PLAN = plan_of(
    model=LeNet(channels=2, batch_norm=True),
    cut="norm1",
    defense=GaussianNoise(std=0.01),
    optimizer=Adam(learning_rate=0.01, state="keep"),
)


def run(cell: Path, protocol: Protocol, plan: Plan = PLAN, sizes: tuple[int, ...] = (12, 12)) -> Trained:
    return train(cell, plan, federation(sizes), protocol, RECORDING)  # pyright: ignore[reportArgumentType]


def test_it_trains_every_block_and_tells_every_round(protocol: Protocol, tmp_path: Path) -> None:
    trained = run(tmp_path, protocol)
    standing, segments = trained.standing, PLAN.segments()
    assert standing.round == len(standing.losses) == 3
    assert 0 <= trained.accuracy <= 1
    for state, segment in ((standing.client, segments.client), (standing.server, segments.server)):
        before = segment.state_dict()
        assert list(state) == list(before)
        for name, value in state.items():
            assert value.isfinite().all()
            assert value.dtype == before[name].dtype
            assert not torch.equal(value, before[name]), name


def test_the_same_seed_gives_the_same_bits_and_another_one_others(protocol: Protocol, tmp_path: Path) -> None:
    first, again = run(tmp_path / "first", protocol), run(tmp_path / "again", protocol)
    other = run(tmp_path / "other", protocol, PLAN.model_copy(update={"seed": 6}))
    assert bits((first.standing, first.ledger, first.accuracy)) == bits((again.standing, again.ledger, again.accuracy))
    assert first.standing.losses != other.standing.losses


def test_its_steps_are_known_before(protocol: Protocol, tmp_path: Path) -> None:
    if protocol.drop_out or protocol.stragglers:
        assert run(tmp_path, protocol).standing.steps < protocol.steps((12, 12))
    else:
        assert run(tmp_path, protocol).standing.steps == protocol.steps((12, 12))


def test_each_clients_steps_are_known_from_the_schedule(protocol: Protocol, tmp_path: Path) -> None:
    standing = run(tmp_path, protocol, sizes=(12, 4)).standing
    draws = protocol.draws(PLAN, (12, 4))
    assert sum(one.steps for one in draws) == standing.steps
    assert [one.rate for one in draws] == [5 / 12, 1]


def test_every_crossing_is_counted(protocol: Protocol, tmp_path: Path) -> None:
    standing = run(tmp_path, protocol).standing
    up, down = standing.bytes
    row = 2 * SHAPE[1] * SHAPE[2] * 4
    # Who steps together sends a gradient up and takes one down in each step.
    segment = sum(parameter.numel() * 4 for parameter in PLAN.segments().client.parameters())
    crossed = down - (standing.steps * segment if protocol.together else 0)
    assert crossed > 0
    assert crossed % row == 0
    assert up == down + crossed // row * 8


def test_the_ledger_keeps_each_watched_row_once_in_a_recorded_round(protocol: Protocol, tmp_path: Path) -> None:
    pages = run(tmp_path, protocol).ledger.pages
    assert [page.round for page in pages] == [1, 2, 3]
    for page in pages[:2]:
        rows = [row for exchange in page.exchanges for row in exchange.rows.tolist()]
        taking_part = {opening.client for opening in protocol.openings(PLAN, 2, Standing(page.round - 1, {}, {}))}
        watched = [100 * client + place for client in sorted(taking_part) for place in range(4)]
        # Who is slow or drops out does not get as far as every row.
        assert set(rows) <= set(watched) if protocol.drop_out else sorted(rows) == watched
        assert len(set(rows)) == len(rows)
        assert all(exchange.smashed.shape == exchange.gradient.shape for exchange in page.exchanges)
    assert pages[2].exchanges == ()


def test_it_goes_on_from_a_checkpoint_as_if_nothing_had_happened(protocol: Protocol, tmp_path: Path) -> None:
    expected = run(tmp_path / "expected", protocol)
    for rounds in (1, 3):
        found = run(tmp_path / "found", protocol.model_copy(update={"rounds": rounds}))
    assert bits((found.standing, found.ledger, found.accuracy)) == bits(
        (expected.standing, expected.ledger, expected.accuracy)
    )
    assert Checkpoint(tmp_path / "found", "this federation").load() is not None


def test_it_learns(protocol: Protocol, tmp_path: Path) -> None:
    longer = protocol.model_copy(update={"rounds": 6})
    plan = plan_of(model=Linear(width=16), optimizer=Adam(learning_rate=0.01))
    assert run(tmp_path, longer, plan, sizes=(40, 40)).accuracy > 0.8


def test_its_settings_survive_yaml_and_a_process_border(protocol: Protocol) -> None:
    text = yaml.safe_dump(protocols.dump_python(protocol, mode="json"))
    assert protocols.validate_python(yaml.safe_load(text)) == protocol
    assert pickle.loads(pickle.dumps(protocol)) == protocol


@pytest.mark.parametrize("change", [{"surprise": 1}, {"rounds": 0}, {"batch_size": 0}, {"rounds": 1.5}])
def test_it_refuses_what_cannot_be(protocol: Protocol, change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        protocols.validate_python({**protocols.dump_python(protocol, mode="json"), **change})


def test_its_grain_is_said(protocol: Protocol) -> None:
    assert protocol.grain in ("round", "step")
