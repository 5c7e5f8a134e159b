import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedsplit.engines.base import Engine
from fedsplit.engines.flower import Flower
from fedsplit.engines.inline import Inline
from fedsplit.engines.ray import Ray
from fedsplit.errors import EngineError
from fedsplit.flower.session import close_session
from fedsplit.protocols.base import Protocol
from fedsplit.protocols.parallel import Parallel
from fedsplit.protocols.sequential import Sequential
from fedsplit.protocols.splitfed_v1 import SplitFedV1
from tests.engines.federations import Breaks, Kills, KillsOnce, federation, marked, train
from tests.engines.processes import MARK, marked_processes, wait_until_gone
from tests.federation.builders import bits

PROJECT = Path(__file__).parents[2]

EVERYBODY = SplitFedV1(rounds=3, batch_size=8)
LOSING: list[Protocol] = [EVERYBODY, Sequential(rounds=2, batch_size=8), Parallel(rounds=2, batch_size=8)]

PLUGIN = """
import time
from pathlib import Path

from fedsplit.defenses.base import Defense


class Waits(Defense):
    flag: str
    seconds: float

    def after_step(self, segment, step, rng):
        Path(self.flag).touch()
        time.sleep(self.seconds)
"""

SCRIPT = """
import signal
import sys
from pathlib import Path

from fedsplit.engines.{module} import {name}
from tests.engines.federations import federation, train
from waits import Waits

# A job that a shell started in the background inherits an ignored interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
folder = Path(__file__).parent
defense = Waits(flag=str(folder / "flag"), seconds=float(sys.argv[1]))
print(len(train({name}(workers=2), folder / "cell", federation(), defense).standing.losses))
"""


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    close_session()
    value = uuid.uuid4().hex
    monkeypatch.setenv(MARK, value)
    yield value
    close_session()


@pytest.fixture(params=["Flower", "Ray"])
def script(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A user's program with a plug-in beside it."""
    (tmp_path / "waits.py").write_text(PLUGIN)
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(module=request.param.lower(), name=request.param))
    return path


@pytest.mark.engine
@pytest.mark.parametrize("engine", [Flower(workers=2), Ray(workers=2)], ids=["flower", "ray"])
def test_a_failing_client_is_one_line_with_client_round_and_cause_and_the_next_training_works(
    engine: Engine, tmp_path: Path, mark: str
) -> None:
    data = federation(clients=2)
    with pytest.raises(EngineError) as caught:
        train(engine, tmp_path / "broken", marked(data, client=1), Breaks(), EVERYBODY)
    assert re.fullmatch(
        r"client 1, round 1: training failed \(ValueError: a plug-in fell over\); .+", str(caught.value)
    )
    assert wait_until_gone(mark, seconds=5) == []
    assert train(engine, tmp_path / "whole", data).standing.round == 3
    assert any(line.startswith("ray::") for line in marked_processes(mark)), "the search must be able to find workers"
    close_session()
    assert wait_until_gone(mark, seconds=5) == []


@pytest.mark.engine
def test_a_worker_that_dies_is_one_line_with_client_and_round(tmp_path: Path, mark: str) -> None:
    with pytest.raises(EngineError) as caught:
        train(Flower(workers=1), tmp_path, marked(federation(clients=2), client=1), Kills(), EVERYBODY)
    # Both clients are on this worker, and Flower does not tell whose message it was that it died of.
    assert re.match(r"client [01], round 1: the worker failed \(.*died.*\); ", str(caught.value))
    assert wait_until_gone(mark, seconds=5) == []


@pytest.mark.engine
@pytest.mark.parametrize("protocol", LOSING, ids=lambda protocol: protocol.kind)
def test_the_round_of_a_worker_that_was_killed_is_made_again_with_the_same_numbers(
    protocol: Protocol, tmp_path: Path
) -> None:
    data = marked(federation(clients=3), client=1)
    flag = tmp_path / "flag"
    found = train(Ray(workers=2), tmp_path / "found", data, KillsOnce(flag=str(flag)), protocol)
    assert flag.exists()
    expected = train(Inline(), tmp_path / "expected", data, KillsOnce(flag=str(flag)), protocol)
    assert bits(found.standing) == bits(expected.standing)
    assert bits(found.ledger) == bits(expected.ledger)


@pytest.mark.engine
def test_what_kills_every_worker_ends_in_one_line(tmp_path: Path, mark: str) -> None:
    with pytest.raises(EngineError) as caught:
        train(Ray(workers=2), tmp_path, marked(federation(clients=2), client=1), Kills(), EVERYBODY)
    assert re.match(r"client 1, round 1: its worker is gone \(.*\); ", str(caught.value))
    assert wait_until_gone(mark, seconds=5) == []


@pytest.mark.engine
def test_a_script_with_a_plugin_prints_its_own_words_alone_and_leaves_nothing(script: Path, mark: str) -> None:
    finished = subprocess.run(
        [sys.executable, script, "0"], env=_environment(), capture_output=True, text=True, check=False
    )
    assert (finished.stdout, finished.stderr, finished.returncode) == ("3\n", "", 0)
    assert wait_until_gone(mark, seconds=5) == []


@pytest.mark.engine
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_in_the_middle_of_a_round_leaves_nothing(script: Path, mark: str, number: int) -> None:
    running = subprocess.Popen(
        [sys.executable, script, "600"], env=_environment(), stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not (script.parent / "flag").exists():
        assert running.poll() is None
        time.sleep(0.05)
    # To the whole group, as a terminal does it.
    os.killpg(running.pid, number)
    assert running.wait(timeout=10) == -number
    assert wait_until_gone(mark, seconds=10) == []


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PROJECT)}
