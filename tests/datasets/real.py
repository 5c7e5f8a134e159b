"""Where the real images are, for the few tests that look at them."""

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("FEDSPLIT_DATA") or "/nowhere")


def needs(name: str) -> pytest.MarkDecorator:
    """Skips a test where FEDSPLIT_DATA does not hold this file."""
    return pytest.mark.skipif(not (ROOT / name).exists(), reason=f"FEDSPLIT_DATA holds no {name}")
