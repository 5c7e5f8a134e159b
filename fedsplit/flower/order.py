"""What the parent process asks of its child: a training, or errands."""

from pathlib import Path

from fedsplit.component import Settings
from fedsplit.federation.errand import Errand
from fedsplit.flower.job import Job

ORDER = "order.json"
"""In the folder of what an errand gave: the names of its files, in the order in which they are to be written."""


class Order(Settings):
    """One line on the child's input: either of the two."""

    job: Job | None = None
    errands: tuple[Errand, ...] = ()
    given: Path | None = None
    """Where the files go that errands give: a folder of each errand's name."""
