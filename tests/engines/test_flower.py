import importlib.util
from pathlib import Path

import pytest

from fedsplit.engines.flower import Flower
from fedsplit.errors import EngineError
from tests.engines.federations import federation, train


def test_without_flower_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"not installed; pip install 'fedsplit\[flower\]'"):
        train(Flower(), tmp_path, federation())
