"""Makes what README shows from real runs: `python docs/refresh.py` runs scenarios/digits.yaml, draws docs/leak.png and
writes the run's table into README; with `--flagship runs/medmnist` that run's table too, and with `--hijacking
runs/hijacking` that run's table into docs/attacks.md.
"""

import argparse
import io
import tempfile
from pathlib import Path

import torch
from keep import KEPT
from marked import insert
from matplotlib.figure import Figure
from rich.console import Console

from fedsplit import document
from fedsplit.component import Trust
from fedsplit.reading import parse
from fedsplit.report.folder import RunFolder
from fedsplit.report.summary import summarise
from fedsplit.report.table import terminal_table
from fedsplit.simulate import simulate

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
ATTACKS = HERE / "attacks.md"
DIGITS = HERE.parent / "scenarios" / "digits.yaml"
COLUMNS = 8
WIDTH = 138


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flagship", type=Path, help="the folder of a finished run of scenarios/medmnist.yaml")
    parser.add_argument("--hijacking", type=Path, help="the folder of a finished run of scenarios/hijacking.yaml")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "digits"
        simulate(parse(document.read(DIGITS), Trust()), root, print)
        insert(README, "digits", table(root))
    if chosen.flagship is not None:
        insert(README, "medmnist", table(chosen.flagship))
    if chosen.hijacking is not None:
        insert(ATTACKS, "hijacking", table(chosen.hijacking))
    draw()


def table(root: Path) -> str:
    """The table of a run as the terminal shows it, fenced."""
    run = RunFolder(root)
    drawn = io.StringIO()
    Console(file=drawn, width=WIDTH, color_system=None).print(terminal_table(summarise(run.join(), run.exhibits())))
    lines = [line.rstrip() for line in drawn.getvalue().rstrip().splitlines()]
    return "\n".join(["```text", *lines, "```"])


def draw() -> None:
    """The same private digits, and what the curious server rebuilds of them under each defense."""
    raw = {**document.read(DIGITS), "attacks": [{"kind": "inverse_network"}]}
    raw |= {"metrics": [{"kind": "psnr"}, {"kind": "keep:Keep"}], "headline": "psnr"}
    scenario = parse(raw, Trust())
    rows: list[tuple[str, torch.Tensor]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, _ in scenario.rows:
            one = parse({**raw, "defenses": {name: scenario.dump()["defenses"][name]}}, Trust())
            KEPT.guesses.clear()
            simulate(one, Path(folder) / name, print)
            # The row's own attack is scored last; the undefended row comes first.
            rows.append((name, KEPT.guesses[-1]))
    names = {"none": "no defense"}
    chosen = torch.linspace(0, len(KEPT.truth) - 1, COLUMNS).long()
    lines = [("private", KEPT.truth), *((f"rebuilt, {names.get(name, name)}", guess) for name, guess in rows)]
    figure = Figure(figsize=(1.0 * COLUMNS + 2.2, 1.0 * len(lines)), dpi=110, facecolor="white")
    for number, (label, images) in enumerate(lines):
        strip = images[chosen, 0].float().clamp(0, 1)
        strip = torch.nn.functional.pad(strip, (0, 1), value=1.0).permute(1, 0, 2).flatten(1)
        axes = figure.add_axes((0.22, 1 - (number + 0.95) / len(lines), 0.77, 0.9 / len(lines)))
        axes.imshow(strip.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
        axes.axis("off")
        figure.text(0.205, 1 - (number + 0.5) / len(lines), label, ha="right", va="center", fontsize=11)
    figure.savefig(HERE / "leak.png")


if __name__ == "__main__":
    main()
