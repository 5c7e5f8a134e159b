"""Where neither Flower nor Ray is installed, servers, protocols and the inline engine work all the same."""

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]

ALONE = """
import sys
from pathlib import Path

# An entry of None makes every import of it fail, as if it were not there.
sys.modules["flwr"] = sys.modules["ray"] = None

import fedsplit.engines.ray
import fedsplit.federation.service
import fedsplit.flower.session
import fedsplit.hosting
from fedsplit.simulate import simulate
from tests import tiny

for protocol in ("splitfed_v1", "splitfed_v2", "sequential", "parallel"):
    chosen = tiny.scenario(f"protocol={{kind: {protocol}, rounds: 1}}", "defenses={}", "engine={kind: inline}")
    print(protocol, simulate(chosen, Path(sys.argv[1]) / protocol, lambda _: None).outcomes[0].valid)
"""


def test_the_reference_engine_needs_neither(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", ALONE, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.stderr == ""
    assert [line.split()[0] for line in finished.stdout.splitlines()] == [
        "splitfed_v1", "splitfed_v2", "sequential", "parallel",
    ]  # fmt: skip
