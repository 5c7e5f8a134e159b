"""What the parent process asks of its child: a training, or errands."""

import json
from pathlib import Path

from fedsplit.component import Settings
from fedsplit.federation.errand import Errand, Files
from fedsplit.flower.job import Job
from fedsplit.flower.temporary import writing

_NAMES = "names.json"
"""In the folder of what an errand gave: the names of its files, in their order."""


class Order(Settings):
    """One line on the child's input: either of the two."""

    job: Job | None = None
    errands: tuple[Errand, ...] = ()
    given: Path | None = None
    """Where the files go that errands give, and lie that are handed to them: a folder of each errand's name."""
    supplies: tuple[str, ...] = ()
    """The names of what lies there, too, for any errand that looks for it."""


def write_files(folder: Path, files: Files) -> None:
    """What an errand gave, on its way to another process."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        (folder / _NAMES).write_text(json.dumps(list(files)))


def read_files(folder: Path) -> Files:
    """The same, on arrival."""
    names = json.loads((folder / _NAMES).read_text())
    return {name: (folder / name).read_bytes() for name in names}
