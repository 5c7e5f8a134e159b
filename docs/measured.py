"""Runs a paper's scenario in its measured setting, and writes what came out into the file's own header.

`python docs/measured.py scenarios/papers/sca-2024-mnist-split.yaml --out runs/mnist`; with `--compare` the header stays
and whatever lies outside its tolerance is printed, and the exit status is then 1. The scenario file says after
`# measured with:` which keys make the measured setting, as for `--set`.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from fedsplit import reading
from fedsplit.errors import FedsplitError
from fedsplit.report.estimate import Estimate
from fedsplit.report.folder import RunFolder
from fedsplit.report.rows import MEAN_IMAGE, Row, Summary
from fedsplit.report.summary import summarise
from fedsplit.simulate import simulate

OPENING, CLOSING = "# measured\n", "# end of measured\n"
TOLERANCES = {"dB": 0.5}
"""How far a mean may move on another machine, beside half the width of its interval; by unit, else 0.02."""
ACCURACY = 0.02


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="the run's folder; a finished one is not run again")
    parser.add_argument("--compare", action="store_true", help="compare with the header instead of writing it")
    chosen = parser.parse_args()
    text = chosen.scenario.read_text(encoding="utf-8")
    try:
        scenario = reading.load(chosen.scenario, assignments=overrides(text))
        simulate(scenario, chosen.out, print)
    except FedsplitError as error:
        sys.exit(f"measured: {error}")
    run = RunFolder(chosen.out)
    summary = summarise(run.join(), run.exhibits())
    if chosen.compare:
        differences = list(outside(text, summary))
        print("\n".join(differences) or "all within tolerance")
        return 1 if differences else 0
    before, rest = text.split(OPENING)
    _, after = rest.split(CLOSING)
    block = "".join(f"# {line}".rstrip() + "\n" for line in table(summary))
    chosen.scenario.write_text(f"{before}{OPENING}{block}{CLOSING}{after}", encoding="utf-8")
    return 0


def overrides(text: str) -> tuple[str, ...]:
    """The assignments that make the measured setting."""
    found = re.search(r"^# measured with: (.+)$", text, re.MULTILINE)
    return tuple(found.group(1).split()) if found else ()


def table(summary: Summary) -> Iterator[str]:
    """A line per row and attack, and what the numbers are."""
    header = ("row", "attack", "accuracy", *summary.metrics)
    anchors = {metric: summary.rows[0].reading(metric) for metric in summary.metrics}
    means = (one.anchor(MEAN_IMAGE) if one else None for one in anchors.values())
    lines = [header, *(cells(summary, row) for row in summary.rows)]
    lines.append(("mean image", "", "", *("" if mean is None else f"{mean:.3f}" for mean in means)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        yield " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
    seeds = len(summary.rows[0].seeds)
    yield f"{summary.data.images:,} images of {summary.data.kind}, {seeds} seed{'s' if seeds > 1 else ''}."
    yield "Accuracy: mean and deviation between seeds. Scores: mean, 95 % interval (seeds are drawn first, then images"
    yield "within each), and after +- what the mean of a run elsewhere may differ by. In parentheses: a control failed."
    yield "*: the worst attack on its row by the headline, which is the first score."


def cells(summary: Summary, row: Row) -> tuple[str, ...]:
    utility = row.utility
    deviation = "" if utility.deviation is None else f" +- {utility.deviation:.3f}"
    accuracy = f"{utility.mean or 0:.3f}{deviation}"
    readings = [row.reading(metric) for metric in summary.metrics]
    scores = (score(one.estimate, valid=row.valid) if one else "" for one in readings)
    return (row.defense, called(summary, row) + ("*" if row.worst_of else ""), accuracy, *scores)


def called(summary: Summary, row: Row) -> str:
    """The attack; beside its threat where there are several."""
    return row.attack if len(summary.threats) == 1 else f"{row.attack} under {row.threat}"


def score(found: Estimate, *, valid: bool) -> str:
    if found.mean is None or found.low is None or found.high is None:
        return "none"
    text = f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}] +- {tolerance(found):.3f}"
    return text if valid else f"({text})"


def tolerance(found: Estimate) -> float:
    assert found.low is not None and found.high is not None
    return TOLERANCES.get(found.unit, 0.02) + (found.high - found.low) / 2


def outside(text: str, summary: Summary) -> Iterator[str]:
    """What the header says otherwise."""
    block = text.partition(OPENING)[2].partition(CLOSING)[0]
    header, *lines = [line.removeprefix("# ").split("|") for line in block.splitlines() if "|" in line]
    metrics = [cell.strip() for cell in header[3:]]
    for name, attack, accuracy, *scores in ([cell.strip() for cell in line] for line in lines):
        if not attack:
            continue
        known_as = (name, attack.rstrip("*"))
        row = next((one for one in summary.rows if (one.defense, called(summary, one)) == known_as), None)
        if row is None:
            yield f"{name}, {attack}: not in this run"
            continue
        known = float(accuracy.partition(" ")[0])
        if abs(known - (row.utility.mean or 0)) > ACCURACY + (row.utility.deviation or 0):
            yield f"{name}: accuracy {row.utility.mean} instead of {known}"
        yield from (f"{name}, {attack}: {told}" for told in _strayed(row, metrics, scores))


def _strayed(row: Row, metrics: list[str], scores: list[str]) -> Iterator[str]:
    for metric, cell in zip(metrics, scores, strict=False):
        numbers = [float(number) for number in re.findall(r"-?\d+\.\d+", cell)]
        found = row.reading(metric)
        mean = found.estimate.mean if found else None
        if numbers and (mean is None or abs(mean - numbers[0]) > numbers[-1]):
            yield f"{metric} {mean} instead of {cell}"


if __name__ == "__main__":
    sys.exit(main())
