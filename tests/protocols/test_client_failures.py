"""A client that cannot go on, under every protocol: one line that names it, or a drop-out that is counted."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

from fedsplit.defenses.base import Defense
from fedsplit.errors import EngineError
from fedsplit.federation.ledger import Recording
from fedsplit.federation.roles import FederationData
from fedsplit.protocols.base import Protocol
from fedsplit.protocols.parallel import Parallel
from fedsplit.protocols.sequential import Sequential
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.protocols.splitfed_v2 import SplitFedV2
from tests.engines.federations import Breaks, marked
from tests.federation.builders import federation, plan_of, train

ROUNDS = {"rounds": 2, "batch_size": 6}
PROTOCOLS: list[Protocol] = [
    SplitFedV1(**ROUNDS),
    SplitFedV2(**ROUNDS),
    Sequential(**ROUNDS),
    Parallel(**ROUNDS),
    Parallel(**ROUNDS, sync="round"),
]


class Misshapes(Defense):
    """Releases one value too many per sample."""

    def release(self, smashed: Tensor, rng: Generator) -> Tensor:
        return torch.cat([smashed, smashed[..., :1]], dim=-1)


class Loses(Defense):
    """Releases nothing of the last sample."""

    def release(self, smashed: Tensor, rng: Generator) -> Tensor:
        return smashed[:-1]


class Poisons(Defense):
    """Releases what is not a number."""

    def release(self, smashed: Tensor, rng: Generator) -> Tensor:
        return smashed * float("nan")


class Spoils(Defense):
    """Adds a price that is no number, where an image is brighter than any honest one."""

    def client_penalty(self, step):
        return step.smashed.sum() * float("nan" if bool((step.images > 1).any()) else 0)


class BreaksAfterStep(Defense):
    """Falls over once it has its gradient."""

    def after_step(self, segment, step, rng):
        raise ValueError("a plug-in\nfell over")


class BreaksAtServer(Defense):
    """Asks the server for a price that it cannot compute."""

    def server_penalty(self, step):
        raise ValueError("a plug-in\nfell over")


class BreaksAtServersStep(Defense):
    """Cannot change the server's gradients."""

    def after_server_backward(self, segment, passage, rng):
        raise ValueError("a plug-in\nfell over")


class Unprepared(Defense):
    """Cannot even begin."""

    def augment(self, data, public, model, rng):
        raise LookupError("nothing to copy")


def told(protocol: Protocol) -> str:
    return f"{protocol.kind}-{protocol.sync}" if isinstance(protocol, Parallel) else protocol.kind


def run(cell: Path, protocol: Protocol, defense: Defense, data: FederationData, head: str | None = None):
    return train(cell, plan_of(defense=defense, head=head), data, protocol, Recording(training=(1,)))


@pytest.mark.parametrize("head", [None, "logits"], ids=["two parts", "U-shaped"])
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=told)
def test_a_client_that_raises_stops_the_run_in_one_line(protocol: Protocol, head: str | None, tmp_path: Path) -> None:
    data = marked(federation((14, 9, 12)), client=1)
    with pytest.raises(EngineError) as caught:
        run(tmp_path, protocol, Breaks(), data, head)
    assert re.fullmatch(
        r"client 1, round 1: training failed \(ValueError: a plug-in fell over\); .+", str(caught.value)
    )


@pytest.mark.parametrize(
    ("defense", "words"),
    [
        (Misshapes, "client 0, round 1: "),
        (Loses, "client 0, round 1: "),
        (Poisons, "finite"),
        (Unprepared, r"client 0, round 1: training failed \(LookupError: nothing to copy\)"),
    ],
)
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=told)
def test_what_nobody_can_train_on_stops_the_run_in_one_line(
    protocol: Protocol, defense: Callable[[], Defense], words: str, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match=words) as caught:
        run(tmp_path, protocol, defense(), federation((14, 9)))
    assert "client 0, round 1" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "; " in str(caught.value)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=told)
def test_who_returns_what_is_no_number_is_named_or_counted(protocol: Protocol, tmp_path: Path) -> None:
    data = marked(federation((14, 9, 12)), client=1)
    with pytest.raises(EngineError, match=r"^client 1, round 1: .+ (is no longer|are not) finite; "):
        run(tmp_path / "stops", protocol, Spoils(), data)
    tolerant = protocol.model_copy(update={"on_client_failure": "skip"})
    trained = run(tmp_path / "goes on", tolerant, Spoils(), data)
    assert trained.standing.dropped == 2
    assert all(value.isfinite().all() for value in (trained.standing.client | trained.standing.server).values())


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=told)
def test_where_everybody_fails_after_the_first_answer_everybody_failed(protocol: Protocol, tmp_path: Path) -> None:
    tolerant = protocol.model_copy(update={"on_client_failure": "skip"})
    with pytest.raises(EngineError, match="round 1: every client failed; "):
        run(tmp_path, tolerant, BreaksAfterStep(), federation((14, 9)))


@pytest.mark.parametrize("defense", [BreaksAtServer, BreaksAtServersStep])
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=told)
def test_what_fails_at_the_server_stops_the_run_in_one_line(
    protocol: Protocol, defense: type[Defense], tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match=r"round 1: .*failed \(ValueError: a plug-in fell over\)") as caught:
        run(tmp_path, protocol, defense(), federation((14, 9)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("head", [None, "logits"], ids=["two parts", "U-shaped"])
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=told)
def test_a_client_that_raises_can_count_as_dropped_out(protocol: Protocol, head: str | None, tmp_path: Path) -> None:
    tolerant = protocol.model_copy(update={"on_client_failure": "skip"})
    trained = run(tmp_path, tolerant, Breaks(), marked(federation((14, 9, 12)), client=1), head)
    assert trained.standing.round == 2
    assert trained.standing.dropped == 2
    assert [client for client, _ in trained.ledger.pages[0].returned] == [0, 2]
    assert trained.accuracy > 0
    assert all(value.isfinite().all() for value in trained.standing.client.values())


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=told)
def test_a_round_in_which_everybody_fails_is_told(protocol: Protocol, tmp_path: Path) -> None:
    tolerant = protocol.model_copy(update={"on_client_failure": "skip"})
    with pytest.raises(EngineError, match="round 1: every client failed; "):
        run(tmp_path, tolerant, Poisons(), federation((14, 9)))


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=told)
def test_drop_outs_that_were_drawn_are_counted_too(protocol: Protocol, tmp_path: Path) -> None:
    unlucky = protocol.model_copy(update={"drop_out": 0.999999})
    assert run(tmp_path, unlucky, Defense(), federation((14, 9))).standing.dropped == 4
