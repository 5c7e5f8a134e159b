"""`flwr run` of this project, by the commands of docs/flower.md: in Flower's simulation, and on a deployment."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("flwr")

from fedsplit.records.outcome import Outcomes
from fedsplit.report.folder import RunFolder
from fedsplit.simulate import simulate
from tests import tiny
from tests.engines.processes import MARK, kill_marked

pytestmark = pytest.mark.engine

PROJECT = Path(__file__).parents[2]
PHANTOMS = "dataset={kind: phantoms, count: 200, image_size: 8}"
SECONDS = 240
"""Far more than a run takes on an idle machine."""

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts Flower's commands, which leave nothing at home and ask no other machine; all of them end with the test."""
    mark = uuid.uuid4().hex
    # Ray's sockets need a short path. With a folder of its own it joins no cluster that somebody else has started.
    ray = tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True)
    environment = {
        **{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        MARK: mark,
        "RAY_TMPDIR": ray.name,
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(free_port()),
        "FLWR_LOCAL_CONTROL_API_PORT": str(free_port()),
        # Seconds; a process is started for every message.
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }

    running: list[subprocess.Popen[bytes]] = []

    def started(command: Sequence[str], at: Path, **more: str) -> subprocess.Popen[bytes]:
        at.mkdir(exist_ok=True)
        with (at / f"{command[0]}.log").open("w") as log:
            home = {"FLWR_HOME": str(at / "flwr")}
            running.append(
                subprocess.Popen(command, cwd=at, env={**environment, **home, **more}, stdout=log, stderr=log)
            )
        return running[-1]

    try:
        yield started
    finally:
        left = kill_marked(mark, seconds=20)
        for process in running:
            process.wait()
        ray.cleanup()
        assert not left


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(start: Start, folder: Path, scenario: dict[str, Any], *more: str) -> str:
    """What `flwr run` printed."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump(scenario))
    config = f'scenario="{folder}/tiny.yaml" out="{folder}/out"'
    command = ["flwr", "run", str(PROJECT), "--stream", "--run-config", config, *more]
    assert start(command, folder).wait(SECONDS) == 0, (folder / "flwr.log").read_text()
    return (folder / "flwr.log").read_text()


def same(found: Outcomes, expected: Outcomes) -> bool:
    """But for the time that they took."""

    def timeless(outcomes: Outcomes) -> Outcomes:
        untimed = {"seconds": 0.0, "training_seconds": 0.0}
        return outcomes.model_copy(
            update={"outcomes": tuple(one.model_copy(update=untimed) for one in outcomes.outcomes)}
        )

    return timeless(found) == timeless(expected)


def test_a_simulation_gives_the_outcomes_of_one_process(start: Start, tmp_path: Path) -> None:
    scenario = tiny.raw(PHANTOMS)
    federation = "num-supernodes=2 client-resources-num-cpus=1 init-args-num-cpus=1"
    printed = run(start, tmp_path, scenario, "--federation-config", federation)
    expected = simulate(tiny.scenario(PHANTOMS), tmp_path / "expected", lambda _: None)
    assert len(expected.outcomes) == 2
    assert same(RunFolder(tmp_path / "out").join(), expected)
    assert "linear_inverse" in printed
    assert str(tmp_path / "out" / "report.html") in printed
    (bundle,) = (tmp_path / "flwr" / "apps").iterdir()
    assert {path.name for path in bundle.iterdir()} == {"pyproject.toml", "LICENSE", "fedsplit", "scenarios"}
    assert {path.suffix for path in (bundle / "fedsplit").rglob("*") if path.is_file()} <= {".py", ".pyc"}


def test_a_deployment_gives_the_outcomes_of_one_process(start: Start, tmp_path: Path) -> None:
    link, changed = f"127.0.0.1:{free_port()}", (PHANTOMS, "protocol.rounds=1", "defenses={}")
    address = f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "{link}"\ninsecure = true\n'
    (tmp_path / "flwr").mkdir()
    (tmp_path / "flwr" / "config.toml").write_text(address)
    host, _, port = link.partition(":")
    # What the server writes there, a process that was started elsewhere does not see: as on a machine of its own.
    server = ("flower-superlink", "--insecure", "--host", host, "--port", port)
    start(server, tmp_path / "server", TMPDIR="/proc/self/cwd")
    wait_for(port)
    for client in range(2):
        node = ("flower-supernode", "--insecure", "--superlink", link, "--port", str(free_port()))
        start(node, tmp_path / f"node-{client}")
    run(start, tmp_path, tiny.raw(*changed))
    expected = simulate(tiny.scenario(*changed), tmp_path / "expected", lambda _: None)
    assert same(RunFolder(tmp_path / "out").join(), expected)
    for client in range(2):
        assert "train.local_round" in (tmp_path / f"node-{client}" / "flower-supernode.log").read_text()


def wait_for(port: str) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", int(port))) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("nobody listens")
