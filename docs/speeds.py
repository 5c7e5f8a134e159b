"""Writes what benchmarks printed into docs/performance.md: after `python benchmarks/exchange.py > exchange.log`, and as
many others, `python docs/speeds.py exchange.log ...` puts the lines of these files in the place of all that the table
had of their scripts."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from marked import insert, inside

PERFORMANCE = Path(__file__).parent / "performance.md"
HEADER = "| script | figure | best | least to most of the turns | goal | |\n| --- | --- | --- | --- | --- | --- |\n"
FIGURE = re.compile(
    r"^  (?P<name>\S.*?) +(?P<best>[\d.e+-]+) \[(?P<least>[^,]+), (?P<most>[^]]+)\] +"
    r"(?P<goal>at (?:least|most) [\d.]+: (?:reached|MISSED)|stated)(?P<remark>.*)$"
)
"""As a benchmark's figure prints itself."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("logs", type=Path, nargs="+", help="<name of the script>.log each, or <name>-<part>.log")
    logs = parser.parse_args().logs
    anew = tuple(f"| {script(log)} |" for log in logs)
    kept = [row for row in inside(PERFORMANCE, "speeds").removeprefix(HEADER).splitlines() if not row.startswith(anew)]
    insert(PERFORMANCE, "speeds", HEADER + "\n".join([*kept, *(row for log in logs for row in table(log))]))


def script(log: Path) -> str:
    """Whose output it is."""
    return log.stem.partition("-")[0]


def table(log: Path) -> Iterator[str]:
    """A row of the table for each figure in a log. Raises ValueError where there is none."""
    found = [match for line in log.read_text(encoding="utf-8").splitlines() if (match := FIGURE.match(line))]
    if not found:
        raise ValueError(f"{log}: no figure of a benchmark is in it")
    for match in found:
        goal = match["goal"].replace("MISSED", "**missed**")
        cells = (
            script(log),
            match["name"],
            match["best"],
            f"{match['least']} to {match['most']}",
            goal,
            match["remark"],
        )
        yield "| " + " | ".join(cell.strip() for cell in cells) + " |"


if __name__ == "__main__":
    main()
