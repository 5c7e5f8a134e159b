"""A federation whose server an attack has: what the clients get, and what is kept."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fedsplit.attacks.base import ATTACKS, ActiveAttack, hijacked
from fedsplit.attacks.feature_space_hijacking import FeatureSpaceHijacking
from fedsplit.engines.base import Engine
from fedsplit.engines.inline import Inline
from fedsplit.engines.ray import Ray
from fedsplit.errors import EngineError
from fedsplit.federation.checkpoint import Checkpoint
from fedsplit.federation.exposure import Observation, expose
from fedsplit.federation.hijacking import Hijacking
from fedsplit.federation.ledger import Recording
from fedsplit.federation.plan import Plan
from fedsplit.federation.trained import Trained
from fedsplit.protocols.base import Protocol
from fedsplit.protocols.parallel import Parallel
from fedsplit.protocols.sequential import Sequential
from fedsplit.protocols.splitfed_v2 import SplitFedV2
from fedsplit.training import Training
from tests.active import Magnet
from tests.federation.builders import auxiliary, bits, federation, plan_of, started

PROTOCOLS: list[Protocol] = [
    Sequential(rounds=2, batch_size=6),
    SplitFedV2(rounds=2, batch_size=6, participation=0.7),
    Parallel(rounds=2, batch_size=6),
    Parallel(rounds=2, batch_size=6, sync="never"),
]
IDS = ["sequential", "splitfed_v2", "parallel", "apart"]
RECORDING = Recording(training=(1,), inference=(2,))


SHIPPED = FeatureSpaceHijacking(width=8, warm_up=2, batch_size=4)


def plan_under(attack: ActiveAttack, **changes: Any) -> Plan:
    function = f"{hijacked.__module__}:{hijacked.__name__}"
    settings = json.dumps(ATTACKS.dump(attack))
    return plan_of(hijacking=Hijacking(name="magnet", function=function, settings=settings), **changes)


def train(
    cell: Path, protocol: Protocol, plan: Plan, engine: Engine | None = None, attack: ActiveAttack | None = None
) -> Trained:
    data = federation()
    plan, start = started(plan, data.public)
    start = replace(start, server_memory=(attack or Magnet()).prepare(auxiliary()))
    checkpoint = Checkpoint(cell, "this federation")
    return (engine or Inline()).train(Training(protocol, plan, start, data, RECORDING, checkpoint))


@pytest.mark.parametrize("head", [None, "logits"], ids=["labels up", "U-shaped"])
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=IDS)
def test_clients_get_the_gradient_of_the_impostors_mean_over_their_own_rows(
    protocol: Protocol, head: str | None, tmp_path: Path
) -> None:
    trained = train(tmp_path, protocol, plan_under(Magnet(strength=2.0), head=head, precision="float64"))
    exchanges = trained.ledger.page(1).exchanges
    assert exchanges
    for exchange in exchanges:
        # Pulled twice as hard as it lies off, in a mean over the batch: of 6, or what is left of 14 or 9.
        share = exchange.smashed.norm() / exchange.gradient.norm()
        assert any(float(2 * share) == pytest.approx(rows) for rows in (6, 14 % 6, 9 % 6))
        torch.testing.assert_close(exchange.gradient * share, exchange.smashed)
    assert trained.standing.losses[1] < trained.standing.losses[0]
    # Every row that crossed was seen, from round to round.
    assert int(trained.standing.server_memory["rows"]) > 35
    assert len(trained.standing.server_memory["luck"].unique()) == len(trained.standing.server_memory["luck"])


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=IDS)
def test_the_server_segment_does_not_move(protocol: Protocol, tmp_path: Path) -> None:
    plan = plan_under(Magnet())
    trained = train(tmp_path, protocol, plan)
    _, start = started(plan, federation().public)
    assert bits(trained.standing.server) == bits(start.server)
    assert bits(trained.standing.deployed) != bits((start.client,) * len(trained.standing.deployed))


@pytest.mark.parametrize("state", ["reset", "keep"])
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=IDS)
def test_an_interrupted_hijacking_ends_with_the_same_bits(protocol: Protocol, state: Any, tmp_path: Path) -> None:
    optimizer = plan_of().optimizer.model_copy(update={"state": state})
    plan = plan_under(Magnet(), optimizer=optimizer)
    expected = train(tmp_path / "expected", protocol, plan)
    train(tmp_path / "found", protocol.model_copy(update={"rounds": 1}), plan)
    found = train(tmp_path / "found", protocol, plan)
    assert bits(found.standing) == bits(expected.standing)
    assert bits(found.ledger) == bits(expected.ledger)
    assert int(found.standing.server_memory["rows"]) > 0


@pytest.mark.parametrize("head", [None, "logits"], ids=["labels up", "U-shaped"])
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=IDS)
def test_networks_and_their_optimisers_go_on_after_an_interrupt_too(
    protocol: Protocol, head: str | None, tmp_path: Path
) -> None:
    plan = plan_under(SHIPPED, head=head)
    expected = train(tmp_path / "expected", protocol, plan, attack=SHIPPED)
    train(tmp_path / "found", protocol.model_copy(update={"rounds": 1}), plan, attack=SHIPPED)
    found = train(tmp_path / "found", protocol, plan, attack=SHIPPED)
    assert bits(found.standing) == bits(expected.standing)
    assert any(name.startswith("critic step/") for name in found.standing.server_memory)


@pytest.mark.engine
@pytest.mark.parametrize("head", [None, "logits"], ids=["labels up", "U-shaped"])
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=IDS)
def test_a_hijacking_in_another_process_gives_the_same_bits(
    protocol: Protocol, head: str | None, tmp_path: Path
) -> None:
    plan = plan_under(Magnet(), head=head)
    expected = train(tmp_path / "expected", protocol, plan)
    found = train(tmp_path / "found", protocol, plan, Ray(workers=2))
    assert bits(found.standing) == bits(expected.standing)
    assert bits(found.ledger) == bits(expected.ledger)


@pytest.mark.engine
def test_networks_in_another_process_give_the_same_bits(tmp_path: Path) -> None:
    plan, protocol = plan_under(SHIPPED), Sequential(rounds=2, batch_size=6)
    expected = train(tmp_path / "expected", protocol, plan, attack=SHIPPED)
    found = train(tmp_path / "found", protocol, plan, Ray(workers=2), attack=SHIPPED)
    assert bits(found.standing) == bits(expected.standing)


def test_the_leak_tells_what_the_impostor_knew_and_shares_nothing_with_it(tmp_path: Path) -> None:
    protocol, data = Sequential(rounds=2, batch_size=6), federation()
    plan = plan_under(Magnet())
    trained = train(tmp_path, protocol, plan)
    leak = expose(plan, trained, data, auxiliary(), Observation("inference", 2, defended=True)).leak
    assert leak.learned is not None
    assert bits(leak.learned) == bits(trained.standing.server_memory)
    leak.learned["mean"].zero_()
    assert bits(leak.learned) != bits(trained.standing.server_memory)


@pytest.mark.parametrize(("strength", "told"), [(1e39, "attack magnet: its gradient is no longer finite"), (0.0, "")])
def test_what_is_not_finite_stops_the_run_in_one_line(strength: float, told: str, tmp_path: Path) -> None:
    def run() -> None:
        train(tmp_path, Sequential(rounds=1, batch_size=6), plan_under(Magnet(strength=strength)))

    if not told:
        run()
        return
    with pytest.raises(EngineError) as caught:
        run()
    assert str(caught.value).startswith(told) and "\n" not in str(caught.value)
