import sys
import types
from pathlib import Path

import pytest
import torch

from fedsplit.foreign import loaded
from tests.generators import foreign


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return foreign.repository(tmp_path_factory.mktemp("foreign"))


def test_modules_of_a_repository_are_found_while_it_is_loaded_and_not_afterwards(clone: Path, tmp_path: Path) -> None:
    content = foreign.pickled(clone, tmp_path / "network.pkl").read_bytes()
    path = list(sys.path)
    assert type(loaded(content, clone)["G_ema"]).__name__ == "Generator"  # pyright: ignore[reportIndexIssue]
    assert sys.path == path and not [name for name in sys.modules if name.startswith("training_of_mine")]
    with pytest.raises(ModuleNotFoundError, match="training_of_mine"):
        loaded(content, None)


def test_a_module_of_the_same_name_stands_aside_and_comes_back(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = foreign.pickled(clone, tmp_path / "network.pkl").read_bytes()
    installed = types.ModuleType("own_ops")
    monkeypatch.setitem(sys.modules, "own_ops", installed)
    assert isinstance(loaded(content, clone)["G_ema"], torch.nn.Module)  # pyright: ignore[reportIndexIssue]
    assert sys.modules["own_ops"] is installed and "own_ops.noise" not in sys.modules


def test_a_repository_that_fails_leaves_nothing_behind(clone: Path, tmp_path: Path) -> None:
    content = foreign.pickled(clone, tmp_path / "network.pkl").read_bytes()
    broken = foreign.repository(tmp_path)
    (broken / "own_ops" / "noise.py").write_text("raise OSError('no compiler')")
    path = list(sys.path)
    with pytest.raises(OSError, match="no compiler"):
        loaded(content, broken)
    assert sys.path == path and not [name for name in sys.modules if name.startswith(("training_of_mine", "own_ops"))]
    assert isinstance(loaded(content, clone), dict), "the whole one is not mistaken for it"


def test_files_of_all_three_kinds_are_told_apart(tmp_path: Path) -> None:
    saved = tmp_path / "saved.pt"
    torch.save({"G_ema": torch.nn.Linear(2, 3)}, saved)
    assert isinstance(loaded(saved.read_bytes(), None), dict)
    assert isinstance(loaded(foreign.stored().read_bytes(), None), torch.jit.ScriptModule)
    assert loaded(foreign.dumped([1, 2], tmp_path / "list.pkl").read_bytes(), None) == [1, 2]
