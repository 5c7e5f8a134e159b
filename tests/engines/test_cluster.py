"""A cluster of several nodes on one machine: every node is a raylet with one CPU and a loopback address of its own."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import IO

import pytest
from torch import Generator, nn

from fedsplit.defenses.gaussian_noise import GaussianNoise
from fedsplit.engines.inline import Inline
from fedsplit.engines.ray import Ray
from fedsplit.flower.session import close_session
from fedsplit.protocols.base import Protocol
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from fedsplit.protocols.splitfed_v2 import SplitFedV2
from fedsplit.records.step import ClientStep
from tests.engines.federations import federation, train
from tests.engines.processes import MARK, wait_until_gone
from tests.engines.test_equivalence import bits

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(sys.platform != "linux", reason="other systems have one loopback address"),
]

PROJECT = Path(__file__).parents[2]

# The head has no CPU: it hosts no client, and the engine's own process talks to the cluster through it. Each number
# on the input is one more node, and the answer is the process of its raylet.
CLUSTER = """
import sys

from ray.cluster_utils import Cluster

cluster = Cluster()
quiet = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
cluster.add_node(num_cpus=0, node_ip_address="127.0.0.2", **quiet)
print(cluster.address, flush=True)
for number in map(int, sys.stdin):
    node = cluster.add_node(num_cpus=1, node_ip_address=f"127.0.0.{2 + number}")
    print(node.all_processes["raylet"][0].process.pid, flush=True)
cluster.shutdown()
"""

# A cluster takes some fifteen seconds to miss a node; this one, two or three.
IMPATIENT = {"RAY_health_check_initial_delay_ms": "0", "RAY_health_check_period_ms": "500"}


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


class Nodes:
    """The cluster, and the raylets of its living nodes but the head."""

    def __init__(self, commands: IO[str], answers: IO[str], log: Path) -> None:
        self._commands = commands
        self._answers = answers
        self._log = log
        self._count = 0
        self.address = self._answer()
        self.raylets: list[int] = []

    def add(self) -> None:
        self._count += 1
        print(self._count, file=self._commands, flush=True)
        self.raylets.append(int(self._answer()))

    def kill(self, raylet: int) -> None:
        self.raylets.remove(raylet)
        os.kill(raylet, signal.SIGKILL)

    def _answer(self) -> str:
        line = self._answers.readline().strip()
        assert line, self._log.read_text()
        return line


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    close_session()
    mark = uuid.uuid4().hex
    # Ray's sockets need a short path.
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder,
        Path(folder, "log").open("w") as log,
    ):
        patch.setenv(MARK, mark)
        quiet = {"RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(PROJECT)}
        with subprocess.Popen(
            [sys.executable, "-c", CLUSTER],
            env={**os.environ, **quiet, **IMPATIENT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as running:
            assert running.stdin is not None
            assert running.stdout is not None
            yield Nodes(running.stdin, running.stdout, Path(log.name))
            close_session()
        assert wait_until_gone(mark, seconds=10) == []


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
