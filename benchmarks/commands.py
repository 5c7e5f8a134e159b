"""How long the commands take that a new user types first: wall seconds of whole processes, against what they may take.

`python benchmarks/commands.py` (`--only help` for those whose name begins so). Prints a table, then one JSON object
whose values are measured seconds over allowed seconds: below 1 is in time. Run it on a machine that does nothing else.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
FEDSPLIT = "import sys; sys.path.pop(0); from fedsplit.cli import main; main()"


@dataclass(frozen=True)
class Command:
    """A command line, how long it may take in seconds, and how often it is measured (the best counts)."""

    name: str
    words: tuple[str, ...]
    allowed: float
    runs: int = 1


COMMANDS = (
    Command("help", ("--help",), 0.5, runs=5),
    Command("digits inline", ("simulate", "scenarios/digits.yaml", "--engine", "inline"), 20),
    Command("digits flower", ("simulate", "scenarios/digits.yaml", "--engine", "flower"), 60),
    Command("medmnist", ("simulate", "scenarios/medmnist.yaml"), 480),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="measure the commands whose name begins with this")
    wanted = parser.parse_args().only
    ratios: dict[str, float] = {}
    for command in COMMANDS:
        if command.name.startswith(wanted):
            seconds = min(measured(command) for _ in range(command.runs))
            ratios[command.name] = round(seconds / command.allowed, 3)
            print(f"{command.name:16} {seconds:8.2f} s, may take {command.allowed:g} s", flush=True)
    print(json.dumps(ratios))


def measured(command: Command) -> float:
    """Seconds of one run, in a run folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        out = ("--out", str(Path(folder) / "run")) if "simulate" in command.words else ()
        began = time.perf_counter()
        words = [sys.executable, "-c", FEDSPLIT, *command.words, *out]
        subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began


if __name__ == "__main__":
    main()
