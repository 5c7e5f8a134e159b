"""A piece of work that any process can do which has fedsplit and the same files."""

from collections.abc import Mapping

from fedsplit.component import Settings

Files = Mapping[str, bytes]
"""What an errand gives: contents by file name, in the order in which they are to be written."""


class Errand(Settings):
    """A function by its name, and all it needs as text."""

    name: str
    function: str
    """`package.module:function` of one text that returns Files."""
    settings: str
    """The text."""
