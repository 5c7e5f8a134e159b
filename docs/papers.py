"""The table of SCA's paper on Medical MNIST: every named row, three settings, three seeds, at one stated budget.

`make papers`, or `python docs/papers.py`. What is finished below `--runs` is not run again, and an interrupted cell
goes on from its last round: the same command goes on. Of every setting that is finished, a Markdown table and the
outcomes are written to `--results`. `--set KEY=VALUE` changes the budget of all settings, say to try it out.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from fedsplit import reading
from fedsplit.errors import FedsplitError
from fedsplit.report.folder import OUTCOMES, RunFolder
from fedsplit.report.summary import summarise
from fedsplit.report.table import markdown
from fedsplit.simulate import simulate

PAPERS = Path(__file__).parents[1] / "scenarios" / "papers"
BUDGET = ("dataset.limit=2700", "protocol.rounds=7", "seeds=[0, 1, 2]", "engine={kind: ray}")
SETTINGS = {
    "sca-2024-medmnist-split": ("model.width=100", "targets.count=400"),
    "sca-2024-medmnist-end-to-end": ("model.widths=[100, 100, 28, 100]", "targets.count=400"),
    "sca-2024-medmnist-plug-and-play": ("model.widths=[100, 100, 28, 100]",),
}
"""The files, and what each needs to be within the budget."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/papers"), help="where runs are, and go on")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where tables are written")
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE")
    chosen = parser.parse_args()
    try:
        for name, own in SETTINGS.items():
            edits = (*BUDGET, *own, *chosen.assignments)
            scenario = reading.load(PAPERS / f"{name}.yaml", assignments=edits)
            simulate(scenario, chosen.runs / name, print)
            publish(RunFolder(chosen.runs / name), chosen.results / name, edits)
    except FedsplitError as error:
        sys.exit(f"papers: {error}")


def publish(run: RunFolder, folder: Path, edits: Sequence[str]) -> None:
    """The table, with what it was measured with, and the outcomes as they are."""
    table = markdown(summarise(run.join(), run.exhibits()))
    command = " ".join(f"--set '{edit}'" for edit in edits)
    told = f"`fedsplit simulate scenarios/papers/{folder.name}.yaml {command}`"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(f"{table}\n\nMeasured by {told}\n", encoding="utf-8")
    shutil.copyfile(run.root / OUTCOMES, folder / OUTCOMES)


if __name__ == "__main__":
    main()
