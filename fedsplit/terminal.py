"""What `simulate` and `check` do once something is to be computed, and how it looks in a terminal."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from fedsplit.briefing import card, estimate
from fedsplit.checks import check_cuts
from fedsplit.component import Trust
from fedsplit.engines.base import Engine
from fedsplit.errors import ControlError
from fedsplit.parties import deal, equip, publish
from fedsplit.progress import observed_by
from fedsplit.reading import load
from fedsplit.records.outcome import Outcomes
from fedsplit.scenario import Scenario
from fedsplit.seeding import Seeds
from fedsplit.simulate import simulate as run_scenario


def simulate(
    path: Path, edits: Sequence[str], out: Path | None, *, smoke: bool, plugins: bool
) -> tuple[Path, Outcomes]:
    """Prints the card and runs the scenario; the run's folder, and what came out."""
    scenario = load(path, assignments=edits, trust=Trust(plugins=plugins), smoke=smoke)
    root = out or Path("runs") / (f"{scenario.name}-smoke" if smoke else scenario.name)
    return root, run(scenario, root)


def run(scenario: Scenario, root: Path, engine: Engine | None = None) -> Outcomes:
    """Prints the card and runs the scenario. engine: in place of its own."""
    shape, classes = scenario.dataset.shape(), scenario.dataset.classes()
    # These models are trained next, so there is memory for them.
    check_cuts(scenario, shape, classes, device="cpu")
    console = Console(highlight=False)
    briefing = card(scenario, shape, classes, device="cpu")
    console.print(briefing, style="dim", markup=False, soft_wrap=True)
    with _bars(console) as progress, observed_by(_Bars(progress)):
        return run_scenario(
            scenario, root, lambda line: progress.console.print(line, markup=False, soft_wrap=True), briefing, engine
        )


def check(path: Path, edits: Sequence[str], *, smoke: bool, plugins: bool) -> None:
    """Validates, loads the data, prints the card and the estimate."""
    scenario = load(path, assignments=edits, trust=Trust(plugins=plugins), smoke=smoke)
    shape, classes = scenario.dataset.shape(), scenario.dataset.classes()
    check_cuts(scenario, shape, classes)
    images, *others = (dataset.load() for dataset in scenario.datasets)
    for seed in scenario.seeds:
        roles, _ = deal(scenario, images, Seeds(seed))
        publish(scenario, images, others, roles, Seeds(seed))
        equip(scenario, images, others, roles, Seeds(seed))
    console = Console(highlight=False, soft_wrap=True)
    console.print(card(scenario, shape, classes), markup=False)
    for notice in dict.fromkeys(one.notice for one in (images, *others) if one.notice):
        console.print(notice, style="bold yellow", markup=False)
    console.print(f"estimate       {estimate(scenario, shape, classes, len(images))}", markup=False)
    console.print("the scenario is valid", style="green")


def judge(outcomes: Outcomes, *, strict: bool) -> None:
    """Raises ControlError for the first invalid outcome of a strict run."""
    invalid = [outcome for outcome in outcomes.outcomes if not outcome.valid]
    if strict and invalid:
        first = invalid[0]
        raise ControlError(
            f"{len(invalid)} of {len(outcomes.outcomes)} outcomes are invalid; the first: {first.reason}",
            at=f"{first.attack} on {first.defense}, seed {first.seed}",
            remedy="read the controls in report.html",
        )


class _Bars:
    """Loops as progress bars."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def started(self, description: str, total: int) -> TaskID:
        return self._progress.add_task(description, total=total)

    def advanced(self, loop: object) -> None:
        self._progress.advance(self._task(loop))

    def finished(self, loop: object) -> None:
        self._progress.remove_task(self._task(loop))

    def _task(self, loop: object) -> TaskID:
        assert isinstance(loop, int), "a loop is told by the number it was given"
        return TaskID(loop)


@contextmanager
def _bars(console: Console) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    quiet = not console.is_terminal or "NO_PROGRESS" in os.environ
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        yield progress
