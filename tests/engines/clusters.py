"""A Ray cluster of several nodes on one machine: every node is a raylet with a loopback address of its own."""

import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from fedsplit.flower.session import close_session
from tests.engines.processes import MARK, wait_until_gone

PROJECT = Path(__file__).parents[2]

# Each line on the input is one more node with so many CPUs and GPUs, the first of them the head, and the answer is the
# process of its raylet. GPUs are what Ray is told, whether the machine has any or not.
CLUSTER = """
import sys

from ray.cluster_utils import Cluster

cluster = Cluster()
quiet = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
for number, line in enumerate(sys.stdin):
    cpus, gpus = map(int, line.split())
    node = cluster.add_node(num_cpus=cpus, num_gpus=gpus, node_ip_address=f"127.0.0.{2 + number}", **quiet)
    print(cluster.address, node.all_processes["raylet"][0].process.pid, flush=True)
cluster.shutdown()
"""

# A cluster takes some fifteen seconds to miss a node; this one, two or three.
IMPATIENT = {"RAY_health_check_initial_delay_ms": "0", "RAY_health_check_period_ms": "500"}


class Nodes:
    """The cluster, and the raylets of its living nodes but the head."""

    def __init__(self, commands: IO[str], answers: IO[str], log: Path, cpus: int, gpus: int) -> None:
        """cpus, gpus: of the head."""
        self._commands = commands
        self._answers = answers
        self._log = log
        self.address, _ = self._added(cpus, gpus)
        self.raylets: list[int] = []

    def add(self, cpus: int = 1, gpus: int = 0) -> int:
        """One more node; its raylet."""
        _, raylet = self._added(cpus, gpus)
        self.raylets.append(int(raylet))
        return self.raylets[-1]

    def kill(self, raylet: int) -> None:
        self.raylets.remove(raylet)
        os.kill(raylet, signal.SIGKILL)

    def _added(self, cpus: int, gpus: int) -> list[str]:
        print(cpus, gpus, file=self._commands, flush=True)
        line = self._answers.readline().split()
        assert line, self._log.read_text()
        return line


@contextmanager
def running_cluster(cpus: int, gpus: int = 0) -> Iterator[Nodes]:
    """A cluster that is a head with these resources, and gone without a trace when the block ends."""
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
            yield Nodes(running.stdin, running.stdout, Path(log.name), cpus, gpus)
            close_session()
        assert wait_until_gone(mark, seconds=10) == []
