"""The table of SCA's paper on Medical MNIST: every named row at three strengths, three threats, three seeds.

`make papers`, or `python docs/papers.py`. What is finished below `--runs` is not run again, and an interrupted cell
goes on from its last round: the same command goes on. Of every run that is finished, a Markdown table, pictures and the
outcomes are written to `--results`, and what compares defenses at the same cost to `--page`, where it has marks for it.
`--set KEY=VALUE` changes the budget of all runs, say to try it out.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from marked import insert

from fedsplit import reading
from fedsplit.errors import FedsplitError
from fedsplit.report.canvas import png, style
from fedsplit.report.figures import privacy_utility
from fedsplit.report.folder import OUTCOMES, RunFolder
from fedsplit.report.summary import summarise
from fedsplit.report.table import markdown, markdown_matched
from fedsplit.simulate import simulate

PAPERS = Path(__file__).parents[1] / "scenarios" / "papers"
_GENERATING = ("gan augmentation", "misleading fakes", "misleading fakes ++")
BUDGET = (
    "seeds=[0, 1, 2]",
    "dataset.limit=2000",
    "roles={private: 0.5, test: 0.125, auxiliary: 0.25, public: 0.0, evaluation: 0.125}",
    "protocol.rounds=5",
    "targets={from: private, count: 200}",
    "engine={kind: ray}",
    *(f"defenses.{row}.generator={{kind: conditional_gan, least_steps: 200}}" for row in _GENERATING),
)
"""Meant for two hours of two idle cores."""
STRENGTHS = (
    "defenses.gaussian.std={sweep: [0.25, 0.5, 1.0]}",
    "defenses.laplace.scale={sweep: [0.25, 0.5, 1.0]}",
    "defenses.gan augmentation.share={sweep: [0.5, 1.0, 2.0]}",
    "defenses.misleading fakes.disguised_weight={sweep: [0.25, 0.5, 1.0]}",
    "defenses.misleading fakes ++.disguised_weight={sweep: [0.25, 0.5, 1.0]}",
    "defenses.mid.beta={sweep: [0.001, 0.003, 0.01]}",
    "defenses.bido.input_weight={sweep: [0.5, 1.0, 2.0]}",
    "defenses.dp sgd.noise_multiplier={sweep: [0.55, 1.1, 2.2]}",
    "defenses.sparse standard.lambda={sweep: [0.1, 0.25, 0.5]}",
)
"""Of every row that has one; sca comes with three."""
SEARCH = "{kind: plug_and_play, per_class: 8, candidates: 500, starts: 16, steps: 20, views: 20}"
OTHERS = "{kind: plug_and_play, auxiliary: {dataset: {kind: fashion_mnist, stand_in: phantoms}}}"
FEW = "{kind: end_to_end, auxiliary: {count: 100}}"
RUNS = {
    "sca-2024-medmnist-split": (
        "model.width=100",
        "attacks=[{kind: linear_inverse}, {kind: inverse_network}, {kind: sparse_inverse, students: 32}]",
    ),
    "sca-2024-medmnist-end-to-end": (
        "model.widths=[100, 100, 28, 100]",
        f"threats=[{{kind: end_to_end}}, {FEW}, {{kind: plug_and_play}}, {OTHERS}]",
        f"attacks=[{{kind: linear_inverse}}, {{kind: inverse_network}}, {SEARCH}]",
        "metrics=[{kind: psnr}, {kind: ssim}, {kind: reidentification, by: pixels}, {kind: attack_accuracy}, "
        "{kind: feature_distance}, {kind: coverage}]",
        "class_headline=attack_accuracy_top1",
    ),
}
"""The files, and what else each needs. The second has the Plug-&-Play threat, too: its file is about the same model,
which is trained but once so."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/papers"), help="where runs are, and go on")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where tables are written")
    parser.add_argument("--page", type=Path, help="a page with marks for the tables of each run")
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE")
    chosen = parser.parse_args()
    try:
        for name, own in RUNS.items():
            edits = (*BUDGET, *STRENGTHS, *own, *chosen.assignments)
            scenario = reading.load(PAPERS / f"{name}.yaml", assignments=edits)
            simulate(scenario, chosen.runs / name, print)
            publish(RunFolder(chosen.runs / name), chosen.results / name, edits, chosen.page)
    except FedsplitError as error:
        sys.exit(f"papers: {error}")


def publish(run: RunFolder, folder: Path, edits: Sequence[str], page: Path | None) -> None:
    """The table, with what it was measured with, a picture for each threat, and the outcomes as they are."""
    summary = summarise(run.join(), run.exhibits(), run.scenario())
    table = markdown(summary)
    command = " ".join(f"--set '{edit}'" for edit in edits)
    told = f"`fedsplit simulate scenarios/papers/{folder.name}.yaml {command}`"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(f"{table}\n\nMeasured by {told}\n", encoding="utf-8")
    shutil.copyfile(run.root / OUTCOMES, folder / OUTCOMES)
    for number, threat in enumerate(summary.threats, 1):
        with style():
            figure = privacy_utility(summary.alone(threat), threat)
            if figure is not None:
                (folder / f"threat-{number}.png").write_bytes(png(figure))
    if page is not None:
        insert(page, folder.name, markdown_matched(summary))


if __name__ == "__main__":
    main()
