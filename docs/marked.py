"""Places in a page of Markdown that a script fills: between `<!-- name -->` and `<!-- /name -->`."""

from pathlib import Path


def inside(page: Path, name: str) -> str:
    """What stands between the marks of this name. Raises ValueError where the page has not both, once."""
    _, found, _ = _parts(page, name)
    return found


def insert(page: Path, name: str, text: str) -> None:
    """Replaces it. Raises ValueError as `inside` does."""
    before, _, after = _parts(page, name)
    page.write_text(f"{before}{text}{after}", encoding="utf-8")


def _parts(page: Path, name: str) -> tuple[str, str, str]:
    opening, closing = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
    before, rest = page.read_text(encoding="utf-8").split(opening)
    found, after = rest.split(closing)
    return before + opening, found, closing + after
