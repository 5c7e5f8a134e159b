"""What `report` does, and `simulate` at its end: table, figures and page of a run, from what lies in its folder."""

from pathlib import Path

from rich.console import Console

from fedsplit.errors import DataError
from fedsplit.report.folder import RunFolder
from fedsplit.report.page import write_report
from fedsplit.report.summary import summarise
from fedsplit.report.table import terminal_table
from fedsplit.simulate import writing

_NARROWEST = 140
"""Columns of a table that is written to a file: nothing is lost to wrapping."""


def draw(root: Path) -> None:
    """Writes the page; prints the table and where the page lies."""
    if not root.is_dir():
        raise DataError("is no folder", at=str(root), remedy="name the folder of a run, such as runs/digits")
    with writing(root):
        page = write_report(root)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=max(console.width, _NARROWEST))
    run = RunFolder(root)
    console.print(terminal_table(summarise(run.join(), run.exhibits())))
    console.print(f"table, pictures and page: {page}", markup=False)
