"""Clients on several nodes of a cluster, each with one CPU."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from torch import Generator, nn

from fedsplit.defenses.gaussian_noise import GaussianNoise
from fedsplit.engines.inline import Inline
from fedsplit.engines.ray import Ray
from fedsplit.protocols.base import Protocol
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.protocols.splitfed_v2 import SplitFedV2
from fedsplit.records.step import ClientStep
from fedsplit.simulate import simulate
from tests import tiny
from tests.absent import VARIABLE
from tests.engines.clusters import Nodes, running_cluster
from tests.engines.federations import federation, train
from tests.engines.test_equivalence import bits
from tests.engines.test_flower_app import same

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(sys.platform != "linux", reason="other systems have one loopback address"),
]


class Traced(GaussianNoise):
    """Tells in a folder which raylets its processes belong to."""

    folder: str

    def after_step(self, segment: nn.Module, step: ClientStep, rng: Generator) -> None:
        (Path(self.folder) / f"raylet-{os.getppid()}").touch()


class Waits(GaussianNoise):
    """The first to get here after the first round waits until its node dies."""

    folder: str

    def after_step(self, segment: nn.Module, step: ClientStep, rng: Generator) -> None:
        folder = Path(self.folder)
        if not (folder / "found" / "checkpoint").exists():
            return
        try:
            (folder / "first").mkdir()
        except FileExistsError:
            return
        (folder / "first" / str(os.getppid())).touch()
        time.sleep(600)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    # The head has no CPU: it hosts no client, and the engine's own process talks to the cluster through it.
    with running_cluster(cpus=0) as nodes:
        yield nodes


@pytest.fixture
def nodes(cluster: Nodes) -> Nodes:
    """One more than there are clients, whatever a test before did: where a worker is lost, another one has room."""
    while len(cluster.raylets) < 4:
        cluster.add()
    return cluster


@pytest.mark.parametrize("protocol", [SplitFedV1(rounds=2, batch_size=8), SplitFedV2(rounds=2, batch_size=8)])
def test_clients_on_several_nodes_give_the_bits_of_one_process(
    protocol: Protocol, nodes: Nodes, tmp_path: Path
) -> None:
    defense = Traced(std=0.3, folder=str(tmp_path))
    found = train(Ray(address=nodes.address), tmp_path / "found", federation(), defense, protocol)
    hosts = {int(path.name.removeprefix("raylet-")) for path in tmp_path.glob("raylet-*")}
    assert hosts <= set(nodes.raylets)
    assert len(hosts) == 3
    expected = train(Inline(), tmp_path / "expected", federation(), defense, protocol)
    assert bits(found.standing) == bits(expected.standing)
    assert bits(found.ledger) == bits(expected.ledger)
    assert found.evaluation == expected.evaluation


def test_images_travel_to_machines_that_have_none(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of the cluster's processes, which are older, none has the variable.
    monkeypatch.setenv(VARIABLE, "here")
    settings = ("dataset={kind: 'tests.absent:SomewhereDigits', limit: 200}", "seeds=[0, 1]")
    scenario = tiny.scenario(*settings)
    expected = simulate(scenario, tmp_path / "expected", lambda _: None)
    found = simulate(scenario, tmp_path / "found", lambda _: None, engine=Ray(address=nodes.address))
    assert len(found.outcomes) == 4
    assert same(found, expected)


@pytest.mark.parametrize("spare", [1, 0], ids=["another node has room", "no node has room"])
def test_a_node_that_dies_in_the_middle_of_a_round_changes_no_bit(spare: int, nodes: Nodes, tmp_path: Path) -> None:
    while len(nodes.raylets) > 3 + spare:
        nodes.kill(nodes.raylets[-1])
    protocol = SplitFedV2(rounds=3, batch_size=8)
    defense = Waits(std=0.3, folder=str(tmp_path))
    killed: list[int] = []

    def kill() -> None:
        while not (waiting := list((tmp_path / "first").glob("*"))):
            time.sleep(0.05)
        killed.append(int(waiting[0].name))
        nodes.kill(killed[0])

    Thread(target=kill, daemon=True).start()
    found = train(Ray(address=nodes.address), tmp_path / "found", federation(), defense, protocol)
    assert len(killed) == 1
    # Nobody waits any longer.
    expected = train(Inline(), tmp_path / "expected", federation(), defense, protocol)
    assert bits(found.standing) == bits(expected.standing)
    assert bits(found.ledger) == bits(expected.ledger)
    assert found.evaluation == expected.evaluation
