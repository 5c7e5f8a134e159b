"""The command line: simulate, check, list, report. A FedsplitError becomes one line and an exit code."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fedsplit.errors import FedsplitError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help=(
        "How much private data can the other side rebuild from split or federated learning, and what does stopping it "
        "cost?\n\n`fedsplit simulate scenarios/digits.yaml` trains a federated split model under every defense of the "
        "file, attacks what crosses the cut, checks the attacks, and writes a table, pictures and a page to `runs/`."
    ),
)
INTERRUPTED = 130

ScenarioFile = Annotated[Path, typer.Argument(help="A scenario file. To start, copy one from scenarios/.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one key of the scenario, as in `--set protocol.rounds=3` or `--set attacks.0.epochs=10`.",
    ),
]
NoPlugins = Annotated[
    bool, typer.Option("--no-plugins", help="Refuse code that fedsplit does not ship: for a scenario you do not trust.")
]
EngineKind = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="KIND",
        help="Run on this engine: inline, ray or flower. What the file sets of this one stays; `--set` comes after.",
    ),
]
SeedNumber = Annotated[int | None, typer.Option("--seed", metavar="N", help="Run this seed alone.")]
Smoke = Annotated[
    bool,
    typer.Option(
        "--smoke",
        help=(
            "Does it run at all? Two clients, one round, narrow layers, little work in attacks and defenses, and "
            "phantoms instead of all images but digits; seed 0 and engine inline, unless you name others beside it."
        ),
    ),
]


@app.command()
def simulate(
    scenario: ScenarioFile,
    assignments: Assignments = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The run's folder; by default runs/NAME."),
    ] = None,
    engine: EngineKind = None,
    seed: SeedNumber = None,
    smoke: Smoke = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 6 if a control finds an outcome invalid.")
    ] = False,
    no_plugins: NoPlugins = False,
) -> None:
    """Train, attack, check, score: the whole table of one scenario.

    A cell (a defense and a seed) that is finished is not run again, and an interrupted one goes on from its last round.
    Exit codes: 2 the scenario, 3 a plug-in, 4 the data, 5 training or an attack, 6 an invalid outcome with --strict,
    130 interrupted.
    """
    with _complaining():
        from fedsplit import starting

        edits = _edits(scenario, assignments, engine, seed)
        starting.begin(scenario, edits, smoke=smoke, plugins=not no_plugins)

        # Meanwhile, what computes.
        from fedsplit import terminal

        root, outcomes = terminal.simulate(scenario, edits, out, smoke=smoke, plugins=not no_plugins)

        # Only now, so that no training waits for what draws.
        from fedsplit import drawing

        drawing.draw(root)
        terminal.judge(outcomes, strict=strict)


@app.command()
def check(
    scenario: ScenarioFile,
    assignments: Assignments = None,
    engine: EngineKind = None,
    seed: SeedNumber = None,
    smoke: Smoke = False,
    no_plugins: NoPlugins = False,
) -> None:
    """Validate a scenario and its data; print the threat card and what a run would cost.

    The card tells who holds what, who sees what, and which attack uses which asset.
    """
    with _complaining():
        from fedsplit import terminal

        edits = _edits(scenario, assignments, engine, seed)
        terminal.check(scenario, edits, smoke=smoke, plugins=not no_plugins)


@app.command(name="list")
def list_(
    family: Annotated[str | None, typer.Argument(help="One family, such as defenses; all of them by default.")] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print every kind with the JSON schema of its settings.")
    ] = False,
) -> None:
    """List what a scenario can name: defenses, attacks, models, data sets, metrics, ..."""
    with _complaining():
        from fedsplit import catalogue

        catalogue.show(family, json=json)


@app.command()
def report(run: Annotated[Path, typer.Argument(help="The folder of a run, such as runs/digits.")]) -> None:
    """Draw table, figures and page of a run again, from what lies in its folder."""
    with _complaining():
        from fedsplit import drawing

        drawing.draw(run)


def main() -> None:
    """The `fedsplit` command."""
    app()


def _edits(scenario: Path, assignments: list[str] | None, engine: str | None, seed: int | None) -> list[str]:
    from fedsplit import draft

    edits = [] if engine is None else [draft.engine_edit(scenario, engine)]
    edits += assignments or ()
    if seed is not None:
        edits.append(f"seeds=[{seed}]")
    return edits


@contextmanager
def _complaining() -> Iterator[None]:
    # A module in the folder the user started from can be named as a plug-in, as with `python -m`.
    sys.path.append(str(Path.cwd()))
    complaints = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    try:
        yield
    except FedsplitError as error:
        complaints.print(f"fedsplit: {error}")
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        complaints.print("fedsplit: interrupted; the same command goes on from the last finished round")
        raise typer.Exit(INTERRUPTED) from None
