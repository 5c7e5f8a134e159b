"""No defense: the row that shows what an attack can do at all."""

from fedsplit.defenses.base import Defense


class Undefended(Defense):
    """The client sends its smashed data as they are."""
